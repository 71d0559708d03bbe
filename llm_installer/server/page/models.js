// Who answers: the list of what is served, one at a time or up to four side by side.

import { $, el } from './dom.js';
import * as store from './store.js';

export const MOST = 4;

/** Those chosen that are served, as many as may, in the order of the list; what ./lora is where none is, else the first. */
export function chosen(models, settings) {
  const there = settings.models.filter((id) => models.some((one) => one.id === id));
  const most = settings.comparing ? MOST : 1;
  const first = models.find((one) => one.kind === 'lora') ?? models[0];
  const found = (there.length || !first ? there : [first.id]).slice(0, most);
  return models.map((one) => one.id).filter((id) => found.includes(id));
}

/** What the choice is called in the button. */
export function named(ids, label) {
  if (ids.length > 2) return `${label(ids[0])} and ${ids.length - 1} more`;
  return ids.map(label).join(' and ') || 'no model';
}

/** Two to begin a comparison with: what is chosen now, and the base or the newest beside it. */
export function pair(models, ids) {
  const other = [...models.filter((one) => one.kind === 'base'), ...models].find((one) => !ids.includes(one.id));
  return [...ids, ...(other ? [other.id] : [])].slice(0, MOST);
}

export function draw(models, votes, change) {
  const { comparing, blind } = store.settings();
  const ids = chosen(models, store.settings());
  const mode = (value, words) => el('label', {}, el('input', {
    type: 'radio', name: 'mode', checked: comparing === value, on: { change: () => change({ comparing: value }) },
  }), el('span', { text: words }));
  const rows = models.map((one) => line(one, ids, comparing, votes.get(one.id), change));
  $('models').replaceChildren(
    el('h2', { id: 'models-title', text: 'Who answers?' }),
    el('div', { class: 'segments', role: 'radiogroup', 'aria-label': 'How many answer' },
      mode(false, 'One model'), mode(true, 'Compare')),
    el('p', { class: 'small', text: comparing
      ? `Tick two to four. All of them get the same question at once.`
      : 'New runs appear here by themselves when their training has finished.' }),
    el('div', { class: 'choices', role: comparing ? 'group' : 'radiogroup', 'aria-labelledby': 'models-title' }, ...rows),
    comparing && el('label', { class: 'tick' }, el('input', {
      type: 'checkbox', checked: blind, on: { change: (event) => change({ blind: event.target.checked }) },
    }), el('span', { text: 'Hide the names until I have voted' })) || '',
  );
}

function line(one, ids, comparing, vote, change) {
  const ticked = ids.includes(one.id);
  const input = el('input', {
    type: comparing ? 'checkbox' : 'radio', name: 'model', value: one.id, checked: ticked,
    disabled: comparing && !ticked && ids.length >= MOST,
    on: { change: () => change({ models: comparing ? toggled(ids, one.id) : [one.id] }) },
  });
  const marks = [one.score, vote && `better ${vote.better} of ${vote.of}`, one.sees && 'sees images'].filter(Boolean);
  return el('label', { class: 'choice' }, input, el('span', {},
    el('strong', { text: one.label }),
    marks.length && el('span', { class: 'mark', text: marks.join(' · ') }),
    one.about && el('span', { class: 'small', text: one.about })));
}

/** At least one stays. */
function toggled(ids, id) {
  const rest = ids.includes(id) ? ids.filter((one) => one !== id) : [...ids, id];
  return rest.length ? rest : ids;
}

/** Below its button, and inside of the window. */
export function place() {
  const box = $('choose').getBoundingClientRect();
  const width = Math.min(420, innerWidth - 16);
  Object.assign($('models').style, {
    top: `${box.bottom + 6}px`, left: `${Math.max(8, Math.min(box.left, innerWidth - width - 8))}px`, width: `${width}px`,
  });
}
