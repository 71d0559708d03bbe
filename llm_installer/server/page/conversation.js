// A conversation as plain values: what it holds, what a model is sent of it, and what becomes a training row.
//
// chat:   {id, title, system, created, updated, turns}
// turn:   {role: 'user', text, images} or {role: 'assistant', answers, chosen, compared}
// answer: {model, text, finish, tokens, seconds, limit, error}
//
// Not compared: `answers` are tries at one answer and `chosen` is the one shown. Compared: one answer for each model,
// and `chosen` is the one that was voted for, or null.

const TITLE = 60;
const same = (one, other) => one.model === other;

export function begin() {
  const now = Date.now();
  const id = `${now.toString(36)}-${Math.random().toString(36).slice(2, 8)}`;
  return { id, title: '', system: '', created: now, updated: now, turns: [] };
}

export const question = (text, images = []) => ({ role: 'user', text, images });
export const answer = (model, limit) => (
  { model, text: '', finish: null, tokens: 0, seconds: 0, limit, error: '' }
);

/** The title is the beginning of the first question. */
export function title(chat) {
  const first = chat.turns.find((turn) => turn.role === 'user');
  const text = (first?.text ?? '').trim().replace(/\s+/g, ' ');
  return text.length > TITLE ? `${text.slice(0, TITLE - 1).trimEnd()}…` : text || (first ? 'An image' : '');
}

/** The answer that `model` goes on from: the better one after a vote, else its own, else the first. */
export function standing(turn, model) {
  if (turn.chosen !== null) return turn.answers[turn.chosen];
  return turn.answers.find((one) => same(one, model) && one.text) ?? turn.answers.find((one) => one.text);
}

function parts(turn) {
  if (!turn.images?.length) return turn.text;
  const pictures = turn.images.map((url) => ({ type: 'image_url', image_url: { url } }));
  return turn.text ? [...pictures, { type: 'text', text: turn.text }] : pictures;
}

/** The messages before turn `end`, as `model` is sent them; a question that was never answered is left out. */
export function messages(chat, end, model) {
  const sent = chat.system.trim() ? [{ role: 'system', content: chat.system }] : [];
  for (const turn of chat.turns.slice(0, end)) {
    if (turn.role === 'user') sent.push({ role: 'user', content: parts(turn) });
    else {
      const text = standing(turn, model)?.text;
      if (text) sent.push({ role: 'assistant', content: text });
      else sent.pop();
    }
  }
  return sent;
}

/** A training row that ends in `text`; only that answer is learned, the ones before it are what it answers to. */
export function row(chat, place, model, text, alone = false) {
  const before = messages(chat, place, model);
  const system = before.filter((message) => message.role === 'system');
  const context = before.map((message) => (message.role === 'assistant' ? { ...message, weight: 0 } : message));
  return [...(alone ? [...system, before.at(-1)] : context), { role: 'assistant', content: text }];
}

/** How often each model was voted for, and how often it stood for election. */
export function votes(chats) {
  const found = new Map();
  for (const turn of chats.flatMap((chat) => chat.turns)) {
    if (!turn.compared || turn.chosen === null) continue;
    for (const [place, one] of turn.answers.entries()) {
      const known = found.get(one.model) ?? { better: 0, of: 0 };
      found.set(one.model, { better: known.better + (place === turn.chosen), of: known.of + 1 });
    }
  }
  return found;
}

const counted = (n, word) => `${n.toLocaleString('en')} ${word}${n === 1 ? '' : 's'}`;

const ENDS = {
  stop: () => 'finished',
  length: (one) => `cut at ${counted(one.limit ?? one.tokens, 'token')}`,
  stopped: () => 'stopped by you',
  tool_calls: () => 'asks for a tool',
  content_filter: () => 'held back',
};

/** Small print: how long an answer is, how fast it came, and why it ended. */
export function facts(one) {
  const said = one.tokens ? [counted(one.tokens, 'token')] : [];
  if (one.tokens > 1 && one.seconds > 0.02) { // else it came in one piece, which says nothing about speed
    const speed = (one.tokens - 1) / one.seconds; // from the first token to the last
    said.push(`${speed < 10 ? speed.toFixed(1) : Math.round(speed).toLocaleString('en')} tokens/s`);
  }
  const end = ENDS[one.finish];
  if (one.finish) said.push(end ? end(one) : String(one.finish));
  return said.join(' · ');
}

/** What kind of model an entry of /v1/models is, what it is called here, and what a user should know about it. */
export function described(entry, name) {
  const base = name || entry.parent || entry.id; // several bases are served where there is no name
  const short = entry.id.startsWith(`${base}:`) ? entry.id.slice(base.length + 1) : entry.id;
  const kind = short === 'lora' ? 'lora' : [base, 'base'].includes(short) ? 'base' : 'run';
  const root = typeof entry.root === 'string' && entry.root !== entry.id ? entry.root : '';
  const now = root.startsWith(`${base}:`) ? root.slice(base.length + 1) : root;
  const goesOn = entry.style === 'text' ? ' It goes on from your text rather than answer it.' : '';
  const about = {
    base: `The model as it was installed, without any training of yours.${goesOn}`,
    lora: `The run in use${now && `: ${now}`} (./lora). A new training that went well, or your choice, puts another one there.`,
    run: (typeof entry.about === 'string' ? entry.about : '') + goesOn,
  }[kind];
  const label = kind === 'base' ? 'base' : short;
  return { id: entry.id, kind, label: name ? label : entry.id, about, score: kind === 'base' && typeof entry.score === 'string' ? '' : score(entry), sees: entry.vision === true || entry.images === true };
}

function score({ score: given, base_loss: before, best_loss: after }) {
  if (typeof given === 'string') return given.replaceAll('->', '→');
  if (typeof given === 'number') return `score ${given.toFixed(4)}`;
  if (typeof after !== 'number') return '';
  return typeof before === 'number' ? `loss ${before.toFixed(4)} → ${after.toFixed(4)}` : `loss ${after.toFixed(4)}`;
}
