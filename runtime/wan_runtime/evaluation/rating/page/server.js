// The server of this page, below the link that it was opened with.

import { FAULT } from "./words.js";

/** What went wrong. `again`: whether it may work later. */
export class Fault extends Error {
  constructor(message, status, again) {
    super(message);
    this.status = status;
    this.again = again;
  }
}

/** JSON of a path. Throws Fault. */
export async function send(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Fault(FAULT.offline, 0, true);
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  const message = body?.message ?? FAULT.status(response.status);
  // A proxy in front of a server that is away answers with one of these, too.
  throw new Fault(message, response.status, response.ok || response.status >= 500 || response.status === 429);
}

export const put = (path, content) =>
  send(path, { method: "PUT", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) });
