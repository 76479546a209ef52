// Every text of the rating page.

export const TITLE = "Wan ratings";
export const THEME = { dark: "Dark colours", light: "Light colours" };

/** The dimensions in the order of the page: name on the wire, heading, question, anchors of 1 to 5. */
export const DIMENSIONS = [
  ["dynamics", "Dynamics", "Does everything move as it would in the world?", [
    "Nothing moves that should, or motion falls apart",
    "Little motion, or most of it jerks, slides or melts",
    "Motion is there, with clear faults",
    "Natural motion with small faults",
    "Natural and lively from start to end",
  ]],
  ["camera_control", "Camera control", "Does the camera move as the prompt says?", [
    "The camera does something else entirely",
    "The right kind of move is hardly there",
    "The right move, but wrong in speed or direction at times",
    "The right move with small deviations",
    "Exactly the move that is described, steady throughout",
  ]],
  ["frame_quality", "Frame quality", "How good is each single picture?", [
    "Unusable: noise, blur or broken shapes",
    "Strong artefacts in most frames",
    "Artefacts that are seen at once, in some frames",
    "Sharp and clean, flaws only on a close look",
    "As a good camera would record it",
  ]],
  ["accuracy", "Accuracy", "Does the video keep to the first frame and the prompt?", [
    "Another subject or scene",
    "Much is missing, or changes on the way",
    "The main things are right, details are not",
    "All is there, with small differences",
    "All of the first frame and the prompt, throughout",
  ]],
];

/** Name on the wire, label, keys. */
export const CHOICES = [
  ["Left", "The left one is better", "1 or ←"],
  ["Right", "The right one is better", "2 or →"],
  ["Tie", "Both are equally good", "3 or ↑"],
  ["BothBad", "Both are bad", "4 or ↓"],
];

export const RATE = {
  loading: "Loading…",
  number: (index, total) => `Video ${index + 1} of ${total}`,
  pair: (index, total) => `Pair ${index + 1} of ${total}`,
  saved: (done, total) => `${done} of ${total} saved`,
  progress: "Judgements that are saved",
  prompt: "Prompt",
  frame: "First frame",
  video: "Video",
  left: "Left",
  right: "Right",
  broken: "This video does not load. It is tried again in a few seconds.",
  question: "Which video is better?",
  level: (value, text) => `${value}: ${text}`,
  save: "Save and go on",
  back: "Back",
  skip: "Skip for now",
  missing: (names) => `Still to judge: ${names}.`,
  choose: "Choose one of the four.",
  done: "All is saved. Thank you!",
  done_more: (total) => `You have judged all ${total}. You may close this page, or go back and change what you said while the ratings are open.`,
  none: "There is nothing for you to judge.",
};

export const TOGETHER = { play: "Play", pause: "Pause", position: "Position" };

export const SAVING = {
  sending: "Saving…",
  saved: "Saved.",
  again: (seconds) => `Your choice is kept here and is sent again in ${seconds} s.`,
  now: "Send now",
  over: (time) => `The time for ratings ended on ${time}; what was saved is kept.`,
};

export const FAULT = {
  offline: "The server does not answer.",
  status: (status) => `The server answered with status ${status}.`,
  load: (seconds) => `It is tried again in ${seconds} s.`,
};

export const HELP = {
  button: "Help",
  heading: "How to rate",
  about: "Judge each video by itself, by the first frame and the prompt alone. Videos come in random order under no name, and some may come twice. Each judgement is stored when the page says saved; the link goes on where you stopped, on any device.",
  scores: [
    ["1 to 5", "score of the marked dimension, then on to the next"],
    ["← →", "mark another dimension"],
    ["↑ ↓", "change the score"],
  ],
  pairs: [["1 ←, 2 →, 3 ↑, 4 ↓", "left, right, equally good, both bad"]],
  keys: [
    ["Space", "play or pause"],
    ["Enter", "save and go on"],
    ["B, N", "back, skip"],
    ["?", "this help"],
  ],
  close: "Close",
};

export const ADMIN = {
  heading: "Progress",
  about: "Each rater has a link of his own. Who has it can judge in his name.",
  deadline: (time) => `Open until ${time}, or until all is judged.`,
  done: "All is judged: the evaluation goes on.",
  progress: (done, total) => `${done} of ${total}`,
  copy: "Copy link",
  copied: (name) => `The link of ${name} is copied.`,
  link: (name) => `Link of ${name}`,
};
