// How unfinished videos go on. EventSource can't send a key, so server-sent events are read from a
// streamed response. Browsers open six connections to a host: a few videos are streamed, the others
// are asked for now and then until their turn comes.

import * as api from "./api.js";

const STREAMS = 3;
const PAUSE_MS = 4000;

export const final = (video) => video.status === "completed" || video.status === "failed";

/** Calls `told(video)` at each change until the end; `lost(fault)` if it is no longer there. */
export class Follower {
  #waiting = new Map();
  #streams = new Map();
  #timer = null;

  follow(id, told, lost) {
    if (this.#streams.has(id) || this.#waiting.has(id)) return;
    this.#waiting.set(id, { told, lost });
    this.#next();
  }

  drop(id) {
    this.#waiting.delete(id);
    this.#streams.get(id)?.abort();
    this.#streams.delete(id);
    this.#next();
  }

  close() {
    for (const id of [...this.#streams.keys(), ...this.#waiting.keys()]) this.drop(id);
    clearTimeout(this.#timer);
  }

  #next() {
    for (const [id, each] of this.#waiting) {
      if (this.#streams.size >= STREAMS) break;
      this.#waiting.delete(id);
      const stop = new AbortController();
      this.#streams.set(id, stop);
      this.#stream(id, each, stop);
    }
    clearTimeout(this.#timer);
    if (this.#waiting.size) this.#timer = setTimeout(() => this.#poll(), PAUSE_MS);
  }

  async #stream(id, each, stop) {
    while (!stop.signal.aborted) {
      try {
        const response = await api.events(id, stop.signal);
        let ended = false;
        await read(response.body, (video) => {
          ended = final(video);
          each.told(video);
        });
        if (ended) break;
      } catch (fault) {
        if (stop.signal.aborted) return;
        if (fault instanceof api.Fault && fault.code !== "offline" && fault.code !== "service_unavailable") {
          each.lost(fault);
          break;
        }
      }
      await new Promise((done) => setTimeout(done, PAUSE_MS));
    }
    if (this.#streams.get(id) === stop) this.drop(id);
  }

  async #poll() {
    for (const [id, each] of [...this.#waiting]) {
      try {
        const video = await api.video(id);
        if (!this.#waiting.has(id)) continue;
        each.told(video);
        if (final(video)) this.drop(id);
      } catch (fault) {
        if (fault.code === "not_found") {
          this.drop(id);
          each.lost(fault);
        }
      }
    }
    this.#next();
  }
}

/** The objects of a stream of `data:` lines. */
async function read(stream, told) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data:"));
      if (data.length) told(JSON.parse(data.map((line) => line.slice(5)).join("\n")));
    }
  }
}
