// Talking to the server.

/** Tells this page from others that show the same photo. */
export const PAGE = Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("");

export const RETRY = 1000; // milliseconds between tries while the server does not answer

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  const answer = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  if (answer.ok) return answer;
  let message = `${answer.status} ${answer.statusText}`;
  try {
    message = (await answer.json()).error || message;
  } catch {
    // no JSON: the status has to do
  }
  throw new Refused(answer.status, message);
}

const json = (method, value, headers = {}) => ({
  method,
  body: JSON.stringify(value),
  headers: { "Content-Type": "application/json", "X-Page": PAGE, ...headers },
});

export const getProject = async () => (await ask("/api/project")).json();
export const getMap = async (key) => (await ask(`/api/photos/${key}/map`)).arrayBuffer();
export const openPhoto = async (key) => (await ask(`/api/photos/${key}/open`, json("POST", {}))).json();
export const setClasses = async (classes) => (await ask("/api/classes", json("PUT", classes))).json();
export const setFinished = async (key, finished) => (await ask(`/api/photos/${key}/finished`, json("PUT", finished))).json();
export const imageUrl = (key) => `/api/photos/${key}/image`;
export const thumbnailUrl = (key) => `/api/photos/${key}/thumbnail`;

export async function getConfidence(key) {
  const answer = await ask(`/api/photos/${key}/confidence`);
  return answer.status === 204 ? null : new Uint8Array(await answer.arrayBuffer());
}

export async function operate(key, operation, revision) {
  const options = json("POST", operation, { "If-Match": `"${revision}"` });
  return (await ask(`/api/photos/${key}/operations`, options)).json();
}

/** Calls `heard(kind, values)` for each of the server's events, and again from the start after a broken connection. */
export function listen(heard) {
  const source = new EventSource("/api/events");
  for (const kind of ["hello", "stage", "changed", "saved", "classes", "problem"]) {
    source.addEventListener(kind, (event) => heard(kind, JSON.parse(event.data)));
  }
  source.addEventListener("error", () => {
    source.close(); // a browser gives up after some errors; this page does not
    heard("offline", { stranger: false });
    setTimeout(() => again(heard), RETRY);
  });
}

/** Listens as soon as the server answers. */
async function again(heard) {
  try {
    await getProject();
    listen(heard);
  } catch (error) {
    heard("offline", { stranger: error instanceof Refused && error.status === 403 });
    setTimeout(() => again(heard), RETRY);
  }
}
