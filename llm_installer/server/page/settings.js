// The drawer: the system prompt of this conversation, how words are chosen, and light or dark.

import { $, el, fit } from './dom.js';
import * as store from './store.js';

const FIELDS = [
  ['temperature', 'Temperature', { type: 'range', min: 0, max: 2, step: 0.05 },
    '0 always takes the likeliest word, so that the same question gives the same answer; more is more varied.'],
  ['top_p', 'Top-p', { type: 'range', min: 0.05, max: 1, step: 0.05 },
    'Only the likeliest words that together have this share are drawn from; 1 leaves none out.'],
  ['max_tokens', 'Longest answer', { type: 'number', min: 1, max: 1000000, step: 1, inputmode: 'numeric', placeholder: 'as long as the server allows' },
    'In tokens, which are pieces of words; an answer is cut there.'],
  ['seed', 'Seed', { type: 'number', min: 0, max: 4294967295, step: 1, inputmode: 'numeric', placeholder: 'a new one each time' },
    'The same number draws the same answer again, where the temperature is above 0.'],
];

/** What a request takes from the settings. */
export function sampling() {
  const { temperature, top_p, max_tokens, seed } = store.settings();
  const given = Object.entries({ max_tokens, seed }).filter(([, value]) => Number.isInteger(value));
  return { temperature, top_p, ...Object.fromEntries(given) };
}

export function theme(value) {
  if (value === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
}

function field([key, name, shape, why]) {
  const out = shape.type === 'range' && el('output', { for: `set-${key}` });
  const input = el('input', { id: `set-${key}`, ...shape, 'aria-describedby': `why-${key}` });
  const value = store.settings()[key];
  input.value = value ?? '';
  const show = () => { if (out) out.textContent = Number(input.value).toFixed(2); };
  input.addEventListener('input', () => {
    show();
    if (input.value === '' && input.validity.valid) store.set({ [key]: null });
    else if (input.value !== '' && input.validity.valid) store.set({ [key]: Number(input.value) });
  });
  input.addEventListener('blur', () => { input.value = store.settings()[key] ?? ''; });
  show();
  return el('div', { class: 'field' },
    el('div', { class: 'line' }, el('label', { for: `set-${key}`, text: name }), out),
    input, el('p', { class: 'small', id: `why-${key}`, text: why }));
}

function themes() {
  const way = (value, words) => el('label', {}, el('input', {
    type: 'radio', name: 'theme', checked: store.settings().theme === value,
    on: { change: () => { store.set({ theme: value }); theme(value); } },
  }), el('span', { text: words }));
  return el('fieldset', { class: 'field' }, el('legend', { text: 'Appearance' }),
    el('div', { class: 'segments' }, way('system', 'As the system'), way('light', 'Light'), way('dark', 'Dark')));
}

/** `kept` is called with the system prompt when it was changed. */
export function open(system, kept) {
  const dialog = $('settings');
  const prompt = el('textarea', {
    id: 'set-system', rows: '3', 'aria-describedby': 'why-system', placeholder: 'You are a friendly assistant.',
  });
  prompt.value = system;
  prompt.addEventListener('input', () => { kept(prompt.value); fit(prompt); });
  const close = el('button', { type: 'button', class: 'quiet', text: 'Done', on: { click: () => dialog.close() } });
  const { temperature, top_p, max_tokens, seed } = store.DEFAULTS;
  const reset = () => {
    store.set({ temperature, top_p, max_tokens, seed });
    dialog.close();
    open(prompt.value, kept);
  };
  dialog.replaceChildren(
    el('div', { class: 'drawer-head' }, el('h2', { id: 'settings-title', text: 'Settings' }), close),
    el('div', { class: 'field' }, el('label', { for: 'set-system', text: 'System prompt' }), prompt,
      el('p', { class: 'small', id: 'why-system', text: 'What the model is told before this conversation; empty for nothing.' })),
    ...FIELDS.map(field),
    el('button', { type: 'button', class: 'quiet reset', text: 'Back to the usual values', on: { click: reset } }),
    themes());
  dialog.showModal();
  fit(prompt);
}
