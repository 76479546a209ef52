// The service's API, as any client calls it.

import { forget, key } from "./session.js";
import { FAULT } from "./words.js";

// Relative to the page, so that the studio also works below a path of a proxy.
const ROOT = new URL("../v1/", location.href);

/** What the service refused: `message`, and `param` where a field is to blame. */
export class Fault extends Error {
  constructor(message, code = null, param = null) {
    super(message);
    this.code = code;
    this.param = param;
  }
}

/** A response that is fine. Throws Fault; a key that is not known ends the session. */
export async function send(path, options = {}, secret = key()) {
  const headers = { Authorization: `Bearer ${secret}`, ...options.headers };
  let response;
  try {
    response = await fetch(new URL(path, ROOT), { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Fault(FAULT.offline, "offline");
  }
  if (response.ok) return response;
  const fault = await faultOf(response);
  if (response.status === 401 && secret === key()) forget(fault);
  throw fault;
}

async function faultOf(response) {
  const body = await response.json().catch(() => null);
  const wait = Number(response.headers.get("Retry-After"));
  const { message = FAULT.status(response.status), code, param } = body?.error ?? {};
  return new Fault(message + (wait ? FAULT.retry(wait) : ""), code, param);
}

const json = async (path, options, secret) => (await send(path, options, secret)).json();
const body = (fields) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(fields),
});

export const models = (secret) => json("models", {}, secret);
export const page = (after, limit) =>
  json(`videos?limit=${limit}${after ? `&after=${encodeURIComponent(after)}` : ""}`);
export const video = (id) => json(`videos/${id}`);
export const estimate = (fields, signal) => json("videos/estimate", { ...body(fields), signal });
export const cancel = (id) => json(`videos/${id}/cancel`, { method: "POST" });
export const remove = (id) => json(`videos/${id}`, { method: "DELETE" });
export const remix = (id, prompt) => json(`videos/${id}/remix`, body({ prompt }));
export const events = (id, signal) => send(`videos/${id}/events`, { signal });
export const preview = async (model) =>
  (await send(`models/${encodeURIComponent(model)}/preview`)).blob();
export const content = async (id, variant) =>
  (await send(`videos/${id}/content?variant=${variant}`)).blob();

/** Queue a video. `attempt` makes a repeated request the same one. */
export function create(fields, picture, attempt) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    form.append(name, typeof value === "object" ? JSON.stringify(value) : value);
  }
  form.append("input_reference", picture, "first-frame");
  return json("videos", { method: "POST", body: form, headers: { "Idempotency-Key": attempt } });
}
