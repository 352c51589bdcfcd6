// Requests to the server: one image each, a few at once; if the server is busy, a request is repeated.

const AT_ONCE = 4;
const TRIES = 12;
let key = "";

export class NeedsKey extends Error {}

export function setKey(value) {
  key = value;
}

const headers = () => (key ? { "X-API-Key": key } : {});

async function problem(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `the server answered with status ${response.status}`;
  }
}

export async function getJson(path) {
  const response = await fetch(path, { headers: headers() });
  if (response.status === 401) throw new NeedsKey(await problem(response));
  if (!response.ok) throw new Error(await problem(response));
  return response.json();
}

// The prediction for one file; the message of an error is the reason why there is none.
export async function predict(file, name, patient, withPictures) {
  for (let attempt = 0; ; attempt += 1) {
    const body = new FormData();
    body.append("file", file, name);
    for (const [field, value] of Object.entries(patient)) body.append(field, value);
    let response;
    try {
      response = await fetch(`predict?gradcam=${withPictures}`, { method: "POST", headers: headers(), body });
    } catch {
      throw new Error("The server cannot be reached. Is it still running?");
    }
    if (response.ok) return (await response.json()).images[0];
    const told = await problem(response);
    if (response.status === 401) throw new NeedsKey(told);
    if (response.status !== 429 || attempt >= TRIES) throw new Error(told);
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds * (1 + Math.random() * attempt)));
  }
}

// Runs `work` on each entry, a few at a time.
export async function forEach(entries, work) {
  const left = [...entries];
  const worker = async () => {
    while (left.length) await work(left.shift());
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, left.length) }, worker));
}
