// What is asked of the server, in OpenAI's shapes, and what goes wrong, as a sentence.

import * as store from './store.js';

export class Problem extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

const AWAY = 'The server does not answer. Start it again with “llm-installer serve”; nothing here is lost.';
const CUT = 'The connection ended before the answer did.';

function headers(more = {}) {
  const key = store.key();
  return key ? { Authorization: `Bearer ${key}`, ...more } : more;
}

async function refused(response) {
  let said = '';
  try {
    said = (await response.json()).error.message;
  } catch {
    // Not in OpenAI's shape, so that only the number is known.
  }
  const wait = response.status === 429 && Number(response.headers.get('retry-after'));
  const later = wait ? ` Try again in ${wait === 1 ? 'a second' : `${wait} seconds`}.` : '';
  return new Problem((said || `The server refused with the status ${response.status}.`) + later, response.status);
}

async function call(path, init = {}) {
  let response;
  try {
    response = await fetch(path, { ...init, cache: 'no-store' });
  } catch (error) {
    throw error.name === 'AbortError' ? error : new Problem(AWAY);
  }
  if (!response.ok) throw await refused(response);
  return response;
}

const post = (path, body, signal) => call(path, {
  method: 'POST', headers: headers({ 'Content-Type': 'application/json' }), body: JSON.stringify(body), signal,
});

/** The models that are served: `data` of /v1/models. */
export async function models() {
  const found = await (await call('v1/models', { headers: headers() })).json();
  if (!Array.isArray(found?.data)) throw new Problem('The server’s list of models cannot be read.');
  return found.data.filter((entry) => typeof entry?.id === 'string');
}

/** Keeps one training row beside `model`; answers with `path`, `rows` and `command`. */
export const saveRow = async (messages, model) => (
  await post(`page/rows?model=${encodeURIComponent(model)}`, { messages })).json();

/** The data of each server-sent event. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = '';
  let lines = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const pieces = (waiting + value).split('\n');
    waiting = pieces.pop();
    for (const piece of pieces) {
      const line = piece.endsWith('\r') ? piece.slice(0, -1) : piece;
      if (line.startsWith('data:')) lines.push(line.slice(5).trimStart());
      if (line === '' && lines.length) {
        yield lines.join('\n');
        lines = [];
      }
    }
  }
}

/** The chunks of an answer as they come. Throws Problem; an AbortError where `signal` stopped it. */
export async function* chunks(request, signal) {
  const asked = { ...request, stream: true, stream_options: { include_usage: true } };
  const response = await post('v1/chat/completions', asked, signal);
  try {
    for await (const data of events(response.body)) {
      if (data === '[DONE]') return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Problem(chunk.error.message || 'The server broke off with an error.');
      yield chunk;
    }
  } catch (error) {
    if (error instanceof Problem || error.name === 'AbortError') throw error;
    throw new Problem(CUT);
  }
  throw new Problem(CUT);
}
