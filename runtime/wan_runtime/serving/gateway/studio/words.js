// Every text of the studio.

export const TITLE = "Wan studio";

export const DOOR = {
  heading: "Open the studio",
  about: "Your API key stays in this browser tab, and goes to this service alone.",
  key: "API key",
  enter: "Enter",
  missing: "Type or paste an API key.",
  characters: "An API key has letters, digits and signs of plain ASCII only.",
  leave: "Forget key",
};

export const THEME = { dark: "Dark colours", light: "Light colours" };

export const PICTURE = {
  label: "First frame",
  hint: "Drop, paste or choose a picture",
  change: "Choose another picture",
  kinds: (bytes, pixels) => `PNG, JPEG, WebP or GIF, up to ${mebibytes(bytes)} and ${megapixels(pixels)}`,
  heavy: (bytes, most) => `This picture has ${mebibytes(bytes)}: the service takes up to ${mebibytes(most)}.`,
  large: (pixels, most) => `This picture has ${megapixels(pixels)}: the service takes up to ${megapixels(most)}.`,
  preview: (size) => `The picture, cut to ${size} as the video will be`,
  chosen: (name, size) => `${name}, cut to ${size}`,
  unreadable: "This is no picture that the browser can show: choose a JPEG or PNG.",
  missing: "Choose a picture: the video begins with it.",
  pasted: "Pasted picture",
  frame: "Frame of a video",
};

export const ASK = {
  heading: "New video",
  model: "Effect",
  none: "None: only the prompt",
  example: "See an example",
  prompt: "What happens",
  prompt_hint: (most) => `Say what moves, and how the camera moves: up to ${most} characters.`,
  ideas: "Ideas",
  size: "Size",
  seconds: "Length (s)",
  longest: (seconds) => `Up to ${seconds} s`,
  advanced: "Advanced",
  steps: "Steps",
  guidance: "Guidance",
  guidance_low: "Guidance (low)",
  seed: "Seed",
  seed_hint: "Random",
  negative_prompt: "What to avoid",
  adapters: "Adapters",
  strength: (name) => `Strength of ${name}`,
  trigger: (words) => `Its captions say: ${words}`,
  submit: "Make video",
  busy: "Sending…",
  keys: "Ctrl + Enter sends",
  sent: "The video is queued.",
};

/** Prompts to start from: a name, and what it puts into the field. */
export const IDEAS = [
  ["Slow push in", "The camera slowly pushes in while everything else stays calm. Soft natural light."],
  ["Orbit", "The camera orbits around the subject in a smooth half circle, keeping it in the centre."],
  ["Wind", "A gentle wind moves hair, leaves and cloth. The subject looks into the camera and smiles."],
  ["Walk", "The subject walks towards the camera at an easy pace. The background passes slowly."],
  ["Rain", "It begins to rain. Drops run down, puddles ripple, lights reflect on the wet ground."],
  ["Time passes", "Clouds race across the sky, shadows wander, day turns into golden evening."],
  ["Water", "Small waves run across the water and break the reflections into pieces of light."],
  ["Turn", "The subject slowly turns its head from one side to the other and blinks."],
];

export const FORECAST = {
  label: "Estimate",
  waiting: "Estimating…",
  work: (time) => `about ${time} of work`,
  now: "starts at once",
  later: (time) => `starts in about ${time}`,
  nobody: "no worker is ready: it starts when one is",
  place: (position) => `number ${position} in the queue`,
  cost: (amount) => `costs about ${amount}`,
};

export const GALLERY = {
  heading: "Videos",
  empty: "Nothing here yet. Videos that you make show up here and are kept for a while.",
  more: "Show older videos",
  compare: "Compare",
  pick: (prompt) => `Compare “${prompt}”`,
  chosen: (count) => (count === 1 ? "Choose one more to compare" : "Two videos chosen"),
  side: "Compare side by side",
  clear: "Clear",
};

export const CARD = {
  states: { queued: "Waiting", in_progress: "At work", completed: "Done", failed: "Failed" },
  cancelled: "Cancelled",
  stages: {
    loading: "loading",
    encoding_input: "reading the picture",
    denoising: "sampling",
    decoding: "decoding",
    writing: "writing the file",
  },
  step: (step, steps) => `step ${step} of ${steps}`,
  left: (time) => `about ${time} left`,
  place: (position) => `number ${position} in the queue`,
  progress: (prompt) => `Progress of “${prompt}”`,
  play: (prompt) => `Play “${prompt}”`,
  player: (prompt) => `Video of “${prompt}”`,
  loading: "Loading the video…",
  facts: (video) => `${video.size} · ${video.seconds} s · ${video.steps} steps · seed ${video.seed}`,
  unprompted: "without a prompt",
  cancel: "Cancel",
  cancelling: "Stops after this step…",
  remix: "Remix",
  download: "Download",
  remove: "Delete",
  go_on: "Use frame",
  go_on_about: "Use the shown frame as the next first frame",
  done: (prompt) => `“${prompt}” is done.`,
  failed: (prompt, why) => `“${prompt}” failed: ${why}`,
  gone: (prompt) => `“${prompt}” is deleted.`,
};

export const REMIX = {
  heading: "Remix",
  about: "The same first frame, seed and settings with another prompt.",
  prompt: "What happens instead",
  send: "Make remix",
};

export const REMOVE = {
  heading: "Delete this video?",
  about: "The video and its record are deleted for good.",
  stop: "It is not finished: it is stopped, too.",
  yes: "Delete",
};

export const COMPARE = {
  heading: "Compare",
  play: "Play both",
  pause: "Pause both",
  position: "Position",
  first: "First video",
  second: "Second video",
};

export const COMMON = { close: "Close", cancel: "Keep", back: "Back" };

export const FAULT = {
  offline: "The service does not answer. Nothing was lost; try again.",
  status: (status) => `The service answered with status ${status}.`,
  retry: (seconds) => ` Try again in ${duration(seconds)}.`,
};

/** 95 as "2 min", 0.2 as "1 s". */
export function duration(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  if (whole < 90) return `${whole} s`;
  if (whole < 5400) return `${Math.round(whole / 60)} min`;
  return `${(whole / 3600).toFixed(1)} h`;
}

const mebibytes = (bytes) => `${Number((bytes / 2 ** 20).toPrecision(3))} MiB`;
const megapixels = (pixels) => `${Number((pixels / 1e6).toPrecision(2))} megapixels`;

/** Short enough for a label. */
export function short(text) {
  const shown = text.trim() || CARD.unprompted;
  return shown.length > 60 ? `${shown.slice(0, 57)}…` : shown;
}
