// What is seen before the first question.

import { el } from './dom.js';

export function welcome(models) {
  const line = (one) => el('li', {}, el('strong', { text: one.label }), el('span', {},
    one.score && el('span', { class: 'mark', text: one.score }), one.about && el('span', { class: 'small', text: one.about })));
  return el('section', { class: 'welcome' },
    el('h2', { text: 'What would you like to ask?' }),
    el('p', { text: 'Your questions go to this server and nowhere else. Compare sets the base beside your runs: one question, '
      + 'all answers at once. A good answer, or one you have mended, can be saved as a row to train on.' }),
    models.length && el('ul', { class: 'served', 'aria-label': 'What is served' }, ...models.map(line)));
}
