// What this browser keeps: each conversation under a key of its own, so that two tabs do not undo each other.

const PREFIX = 'llm-installer:';
const CHAT = `${PREFIX}chat:`;
const SETTINGS = `${PREFIX}settings`;
const CURRENT = `${PREFIX}current`;

const memory = new Map();
/** Where the browser keeps nothing, things last until the page is closed. */
const fallback = {
  get length() { return memory.size; },
  key: (place) => [...memory.keys()][place] ?? null,
  getItem: (key) => memory.get(key) ?? null,
  setItem: (key, value) => memory.set(key, value),
  removeItem: (key) => memory.delete(key),
};

function reach(name) {
  try {
    const found = window[name];
    found.getItem('');
    return found;
  } catch {
    return fallback;
  }
}

const local = reach('localStorage');
const session = reach('sessionStorage');

function read(key, otherwise) {
  try {
    return JSON.parse(local.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

const sound = (chat) => Boolean(chat && typeof chat.id === 'string' && Array.isArray(chat.turns)
  && chat.turns.every((turn) => (turn.role === 'user' ? typeof turn.text === 'string' : Array.isArray(turn.answers))));

/** All conversations, the newest first; what cannot be read is left alone. */
export function conversations() {
  const keys = [];
  for (let place = 0; place < local.length; place += 1) keys.push(local.key(place));
  const found = keys.filter((key) => key?.startsWith(CHAT)).map((key) => read(key, null)).filter(sound);
  return found.sort((one, other) => other.updated - one.updated);
}

export function conversation(id) {
  const found = read(CHAT + id, null);
  return sound(found) ? found : null;
}

/** False where the browser has no room left for it. */
export function keep(chat) {
  try {
    local.setItem(CHAT + chat.id, JSON.stringify(chat));
    return true;
  } catch {
    return false;
  }
}

export const forget = (id) => local.removeItem(CHAT + id);
export const isConversation = (key) => key === null || key.startsWith(CHAT);

export const DEFAULTS = {
  temperature: 0, top_p: 1, max_tokens: null, seed: null, theme: 'system', models: [], comparing: false, blind: false,
};

export const settings = () => ({ ...DEFAULTS, ...read(SETTINGS, {}) });

export function set(changes) {
  try {
    local.setItem(SETTINGS, JSON.stringify({ ...read(SETTINGS, {}), ...changes }));
  } catch {
    // Nothing is lost but a preference.
  }
}

/** Which conversation this tab shows. */
export const current = () => session.getItem(CURRENT);
export const setCurrent = (id) => session.setItem(CURRENT, id);

/** The key to the server, until the tab is closed. */
export const key = () => session.getItem(`${PREFIX}key`) ?? '';
export const setKey = (value) => session.setItem(`${PREFIX}key`, value);
