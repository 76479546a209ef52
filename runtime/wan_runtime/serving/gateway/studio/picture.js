// The first frame: chosen, dropped or pasted, and shown cut as the service cuts it.

import { element } from "./element.js";
import { Field } from "./field.js";
import { PICTURE } from "./words.js";

const KINDS = "image/png,image/jpeg,image/webp,image/gif";

export class Picture {
  file = null;
  #name = "";
  #bitmap = null;
  #size = [16, 9];
  #limits;
  #caption = element("span", { class: "caption" }, PICTURE.hint);
  #canvas = element("canvas", { role: "img" });
  #input = element("input", { type: "file", accept: KINDS, class: "unseen" });

  /** `limits`: of a model's settings. */
  constructor(limits) {
    this.#limits = limits;
    this.#canvas.hidden = true;
    this.#input.addEventListener("change", () => this.#take(this.#input.files[0]));
    const { max_upload_bytes: bytes, max_image_pixels: pixels } = limits;
    const kinds = element("span", { class: "hint" }, PICTURE.kinds(bytes, pixels));
    this.#input.id = "first-frame";
    this.zone = element(
      "label", { class: "zone", for: this.#input.id }, this.#canvas, this.#caption, kinds,
    );
    this.field = new Field(PICTURE.label, this.#input, { extra: this.zone });
    this.element = this.field.element;
    for (const kind of ["dragover", "dragleave", "drop"]) {
      this.zone.addEventListener(kind, (event) => this.#drag(event));
    }
    document.addEventListener("paste", (event) => {
      const pasted = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
      if (pasted && this.element.isConnected) this.take(pasted, PICTURE.pasted);
    });
  }

  /** Width over height; null without a picture. */
  get ratio() {
    return this.#bitmap && this.#bitmap.width / this.#bitmap.height;
  }

  /** `size`: "1280x720". */
  shape(size) {
    this.#size = size.split("x").map(Number);
    this.#draw();
  }

  /** A Blob of a picture. */
  async take(blob, name) {
    const { max_upload_bytes: bytes, max_image_pixels: most } = this.#limits;
    if (blob.size > bytes) return this.field.show(PICTURE.heavy(blob.size, bytes));
    let bitmap;
    try {
      // Upright, as the service turns it.
      bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
    } catch {
      return this.field.show(PICTURE.unreadable);
    }
    const pixels = bitmap.width * bitmap.height;
    if (pixels > most) {
      bitmap.close();
      return this.field.show(PICTURE.large(pixels, most));
    }
    this.#bitmap?.close();
    this.#bitmap = bitmap;
    this.file = blob;
    this.#name = name;
    this.field.clear();
    this.#draw();
    this.element.dispatchEvent(new CustomEvent("picture", { bubbles: true }));
  }

  #take(file) {
    if (file) this.take(file, file.name);
    this.#input.value = "";
  }

  #drag(event) {
    event.preventDefault();
    this.zone.classList.toggle("over", event.type === "dragover");
    if (event.type === "drop") this.#take(event.dataTransfer.files[0]);
  }

  #draw() {
    if (!this.#bitmap) return;
    const [width, height] = this.#size;
    const { width: across, height: down } = this.#bitmap;
    // The largest centred part with the video's shape.
    const scale = Math.min(across / width, down / height);
    const [kept, keptDown] = [width * scale, height * scale];
    this.#canvas.width = width;
    this.#canvas.height = height;
    const context = this.#canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.fillStyle = "white"; // as the service does behind what is transparent
    context.fillRect(0, 0, width, height);
    context.drawImage(
      this.#bitmap, (across - kept) / 2, (down - keptDown) / 2, kept, keptDown, 0, 0, width, height,
    );
    const shown = `${width}x${height}`;
    this.#canvas.setAttribute("aria-label", PICTURE.preview(shown));
    this.#canvas.hidden = false;
    this.#caption.textContent = PICTURE.chosen(this.#name, shown);
  }
}
