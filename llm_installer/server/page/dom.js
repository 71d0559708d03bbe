// Elements made by hand: text is always text here, and nothing on this page is ever read as HTML.

export const $ = (id) => document.getElementById(id);

/** An element; in `props` `text`, `class`, `on` (listeners) and `data` are special, other keys are attributes.
 * Children that are neither nodes nor texts are left out, so that `wanted && node` may stand among them. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === 'text') node.textContent = value;
    else if (key === 'class') node.className = value;
    else if (key === 'on') for (const [name, run] of Object.entries(value)) node.addEventListener(name, run);
    else if (key === 'data') Object.assign(node.dataset, value);
    else node.setAttribute(key, value === true ? '' : value);
  }
  node.append(...children.filter((child) => child instanceof Node || typeof child === 'string'));
  return node;
}

const SHAPES = {
  again: 'M20 11a8 8 0 1 0-2.3 6M20 5v6h-6',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  close: 'M6 6l12 12M18 6L6 18',
  columns: 'M4 5h6.5v14H4zM13.5 5H20v14h-6.5z',
  copy: 'M9 9h10v11H9zM15 9V4H5v11h4',
  down: 'M7 10l5 5 5-5',
  image: 'M4 5h16v14H4zM4 16l4.5-4.5 4 4L15 13l5 4M15.5 9.5h.01',
  menu: 'M4 7h16M4 12h16M4 17h16',
  pencil: 'M5 19l.8-3.6L16 5.2l2.8 2.8L8.6 18.2zM14 7.2l2.8 2.8',
  plus: 'M12 5v14M5 12h14',
  save: 'M6 4h12v16l-6-4-6 4z',
  sliders: 'M4 8h9M17 8h3M4 16h3M11 16h9M15 6v4M9 14v4',
  star: 'M12 4.5l2.3 4.8 5.2.7-3.8 3.6.95 5.2L12 16.3 7.350 18.8l.95-5.2L4.5 10l5.2-.7z',
  stop: 'M7 7h10v10H7z',
  trash: 'M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.400L17 7',
  up: 'M12 19V6M6 11.5L12 5.5l6 6',
  left: 'M14 7l-5 5 5 5',
  right: 'M10 7l5 5-5 5',
};
const SVG = 'http://www.w3.org/2000/svg';

export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', SHAPES[name]);
  svg.append(path);
  return svg;
}

/** A button with an icon and, where `words` are given, a name that is seen; else `label` is its name. */
export function button(shape, label, run, { words = '', kind = 'icon', ...props } = {}) {
  const named = words ? {} : { 'aria-label': label, title: label };
  return el('button', { type: 'button', class: kind, ...named, on: { click: run }, ...props }, icon(shape), words);
}

export function drawIcons(root) {
  for (const node of root.querySelectorAll('[data-icon]')) node.prepend(icon(node.dataset.icon));
}

/** Tells a screen reader, and nobody else. */
export function announce(text) {
  $('said').textContent = text;
}

let hiding = 0;
/** A sentence at the bottom for some seconds, perhaps with something that undoes what it tells. */
export function toast(text, undo = null) {
  const box = $('toast');
  clearTimeout(hiding);
  const hide = () => { box.hidden = true; };
  const way = undo && el('button', { type: 'button', text: 'Undo', on: { click: () => { hide(); undo(); } } });
  box.replaceChildren(el('span', { text }), ...(way ? [way] : []));
  box.hidden = false;
  hiding = setTimeout(hide, undo ? 10000 : 4000);
}

/** As high as its text, to a limit that the style sheet sets. */
export function fit(area) {
  area.style.height = 'auto';
  area.style.height = `${area.scrollHeight + 2}px`;
}

export async function copy(text, what = 'Copied.') {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el('textarea', { class: 'unseen', 'aria-hidden': 'true' });
    area.value = text;
    (document.querySelector('dialog[open]') ?? document.body).append(area);
    area.select();
    document.execCommand('copy'); // what is left where a page is not served from a safe origin
    area.remove();
  }
  toast(what);
}
