// Answers while they come: every one asked for at once, kept in the browser as they grow, stopped when asked.

import * as api from './api.js';
import { messages } from './conversation.js';
import { refresh } from './messages.js';
import { sampling } from './settings.js';
import * as store from './store.js';

const KEEP = 1000; // milliseconds between two savings of an answer that grows

const running = new Map(); // answer -> {stop, chat}
const drawing = new Map();
let leaving = false;

/** The page is back, as a browser may give it back whole. */
export function stay() {
  leaving = false;
}

export const busy = (one) => running.has(one);
export const any = (chat) => [...running.values()].some((way) => way.chat === chat);

/** The conversation with this id, if an answer in it is still growing. */
export const live = (id) => [...running.values()].find((way) => way.chat.id === id)?.chat ?? null;

export function stop(chat) {
  for (const way of running.values()) if (way.chat === chat) way.stop.abort();
}

export function stopOne(one) {
  running.get(one)?.stop.abort();
}

/** The page goes away: keeps what is there of every answer that grows. */
export function leave() {
  leaving = true;
  for (const { chat } of running.values()) store.keep(chat);
}

/** Draws soon, and the more seldom the longer drawing takes. */
function soon(one, after) {
  if (drawing.has(one)) return;
  const known = drawing.cost ?? 0;
  drawing.set(one, setTimeout(() => {
    drawing.delete(one);
    const begun = performance.now();
    after(() => refresh(one));
    drawing.cost = performance.now() - begun;
  }, Math.max(30, Math.min(1000, 4 * known))));
}

/** Asks for answer `one` of turn `place`; resolves when it has ended, in whatever way. */
export async function run(chat, place, one, tell) {
  const stopping = new AbortController();
  running.set(one, { stop: stopping, chat });
  const set = sampling();
  const request = { model: one.model, messages: messages(chat, place, one.model), ...set };
  Object.assign(one, { limit: set.max_tokens ?? null, error: '', finish: null });
  const clock = { first: 0, last: 0, kept: performance.now() };
  try {
    for await (const chunk of api.chunks(request, stopping.signal)) take(chat, one, chunk, clock, tell);
    one.finish ??= 'stop';
  } catch (error) {
    if (error.name === 'AbortError') one.finish = 'stopped';
    else if (!leaving) {
      one.error = error.message;
      if (error.status === 401) tell.denied();
    }
  }
  one.seconds = (clock.last - clock.first) / 1000;
  running.delete(one);
  chat.updated = Date.now();
  tell.ended(chat, one);
}

/** A piece as text: thoughts stand between the marks by which text has them, so that rows and later turns keep them. */
function written({ reasoning_content: thought, content: said }, clock) {
  let text = '';
  if (thought) {
    text += clock.thinks ? thought : `<think>\n${thought}`;
    clock.thinks = true;
  }
  if (said) {
    text += clock.thinks ? `\n</think>\n\n${said}` : said;
    clock.thinks = false;
  }
  return text;
}

function take(chat, one, chunk, clock, tell) {
  const choice = chunk.choices?.[0];
  const more = written(choice?.delta ?? {}, clock);
  if (more) {
    clock.last = performance.now();
    clock.first ||= clock.last;
    one.text += more;
    one.tokens += 1; // until the server says how many there were
    soon(one, tell.grown(chat));
    if (clock.last - clock.kept > KEEP) {
      clock.kept = clock.last;
      store.keep(chat);
    }
  }
  if (choice?.finish_reason) one.finish = choice.finish_reason;
  if (chunk.usage) one.tokens = chunk.usage.completion_tokens;
}
