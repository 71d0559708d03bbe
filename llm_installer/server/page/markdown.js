// Markdown to DOM nodes, for text that nobody vouches for: createElement and textContent only, no HTML, links by http(s)
// alone, nothing fetched; each pass is linear in the length of the text, and nesting ends at a fixed depth.

import { button, copy, el } from './dom.js';
import { coloured } from './code.js';
import { inline } from './inline.js';

const DEEP = 6;
const LONG = 4000; // a longer line is never the beginning of anything
const COLUMNS = 40;

const FENCE = /^ {0,3}(?:(`{3,})([^`]*)|(~{3,})(.*))$/;
const HEADING = /^ {0,3}(#{1,6})(?: +|$)(.*)$/;
const RULE = /^ {0,3}(?:(?:- *){3,}|(?:\* *){3,}|(?:_ *){3,})$/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])( +|$)(.*)$/;
const DIVIDER = /^ *\|?(?: *:?-+:? *\|)* *:?-+:? *\|? *$/;

const blank = (line) => line.trim() === '';
const short = (line) => line.length <= LONG;
const match = (line, form) => (short(line) ? form.exec(line) : null);
const indent = (line) => line.length - line.trimStart().length;

/** The blocks of some lines: `raw` is their text, `draw` makes their node. */
function blocks(lines, depth) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (blank(lines[at])) at += 1;
    else {
      const [end, draw] = block(lines, at, depth);
      found.push({ raw: lines.slice(at, end).join('\n'), draw });
      at = end;
    }
  }
  return found;
}

function block(lines, at, depth) {
  for (const kind of depth < DEEP ? [fence, heading, rule, quote, list, table] : [fence]) {
    const found = kind(lines, at, depth);
    if (found) return found;
  }
  return paragraph(lines, at, depth);
}

const begins = (lines, at, depth) => [fence, heading, rule, quote, list, table].some((kind) => kind(lines, at, depth, true));

function drawn(lines, depth) {
  return blocks(lines, depth).map((one) => one.draw());
}

function fence(lines, at, depth, asked) {
  const open = match(lines[at], FENCE);
  if (!open) return null;
  if (asked) return true;
  const mark = open[1] ?? open[3];
  const closes = (line) => short(line) && indent(line) < 4 && line.trim().startsWith(mark)
    && line.trim() === mark[0].repeat(line.trim().length);
  let end = at + 1;
  while (end < lines.length && !closes(lines[end])) end += 1;
  return [Math.min(end + 1, lines.length), () => code(lines.slice(at + 1, end).join('\n'), (open[2] ?? open[4]).trim())];
}

function code(text, words) {
  const language = words.split(/\s/)[0];
  const head = el('div', { class: 'code-head' }, el('span', { text: words || 'text' }),
    button('copy', 'Copy this code', () => copy(text)));
  // Wide code scrolls, and whoever has no mouse scrolls it by the arrow keys.
  const body = el('pre', { tabindex: '0', role: 'region', 'aria-label': language ? `Code, ${language}` : 'Code' },
    el('code', {}, ...coloured(text, language)));
  return el('div', { class: 'code' }, head, body);
}

function heading(lines, at) {
  const found = match(lines[at], HEADING);
  if (!found) return null;
  const text = found[2].trim().replace(/(?: #+)$/, '');
  // The page has h1 and h2 itself.
  return [at + 1, () => el(`h${Math.min(found[1].length + 2, 6)}`, {}, ...inline(text))];
}

const rule = (lines, at) => (match(lines[at], RULE) ? [at + 1, () => el('hr')] : null);

function quote(lines, at, depth, asked) {
  const quoted = (line) => /^ {0,3}>/.test(line);
  if (!quoted(lines[at])) return null;
  if (asked) return true;
  let end = at;
  while (end < lines.length && quoted(lines[end])) end += 1;
  const inner = lines.slice(at, end).map((line) => line.replace(/^ {0,3}> ?/, ''));
  return [end, () => el('blockquote', {}, ...drawn(inner, depth + 1))];
}

function list(lines, at, depth, asked) {
  const first = match(lines[at], ITEM);
  if (!first || RULE.test(lines[at])) return null;
  if (asked) return first[4] !== '' && (!/\d/.test(first[2]) || /^1[.)]/.test(first[2]));
  const ordered = /\d/.test(first[2]);
  const base = first[1].length;
  const items = [];
  let end = at;
  while (end < lines.length) {
    const item = match(lines[end], ITEM);
    const next = item && item[1].length < base + 2 && /\d/.test(item[2]) === ordered && !RULE.test(lines[end]);
    if (next) items.push([item[4]]);
    else if (blank(lines[end])) {
      const goesOn = lines.slice(end, end + 3).find((line) => !blank(line));
      if (goesOn === undefined || (indent(goesOn) < base + 2 && !sameList(goesOn, base, ordered))) break;
      items.at(-1).push('');
    } else if (indent(lines[end]) >= base + 2) items.at(-1).push(outdented(lines[end], base + first[2].length + 1));
    else if (blank(lines[end - 1]) || begins(lines, end, depth)) break;
    else items.at(-1).push(lines[end]);
    end += 1;
  }
  const start = ordered && Number.parseInt(first[2], 10) !== 1 ? { start: Number.parseInt(first[2], 10) } : {};
  return [end, () => el(ordered ? 'ol' : 'ul', start, ...items.map((item) => el('li', {}, ...tight(item, depth))))];
}

function sameList(line, base, ordered) {
  const item = match(line, ITEM);
  return Boolean(item) && item[1].length < base + 2 && /\d/.test(item[2]) === ordered;
}

const outdented = (line, most) => line.slice(Math.min(indent(line), most));

/** One paragraph alone is no paragraph of its own. */
function tight(lines, depth) {
  const nodes = drawn(lines, depth + 1);
  return nodes[0]?.tagName === 'P' && !lines.includes('') ? [...nodes[0].childNodes, ...nodes.slice(1)] : nodes;
}

function cells(line) {
  const inner = line.trim().replace(/^\|/, '').replace(/(?<!\\)\|$/, '');
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('\\|', '|'));
}

function table(lines, at) {
  const divider = lines[at + 1];
  if (divider === undefined || !short(lines[at]) || !lines[at].includes('|') || divider.length > 400
    || !divider.includes('-') || !DIVIDER.test(divider)) return null;
  const names = cells(lines[at]);
  const sides = cells(divider).map((cell) => (cell.endsWith(':') ? (cell.startsWith(':') ? 'middle' : 'end') : null));
  if (sides.length !== names.length || names.length > COLUMNS) return null;
  let end = at + 2;
  while (end < lines.length && lines[end].includes('|') && short(lines[end])) end += 1;
  const whole = (texts) => [...texts.slice(0, names.length - 1), texts.slice(names.length - 1).join(' | ')];
  const line = (tag, texts) => el('tr', {}, ...names.map((_, n) => el(tag, { class: sides[n] }, ...inline(texts[n] ?? ''))));
  return [end, () => el('div', { class: 'table', tabindex: '0', role: 'region', 'aria-label': 'Table' }, el('table', {},
    el('thead', {}, line('th', names)),
    el('tbody', {}, ...lines.slice(at + 2, end).map((one) => line('td', whole(cells(one)))))))];
}

function paragraph(lines, at, depth) {
  let end = at + 1;
  while (end < lines.length && !blank(lines[end]) && !(depth < DEEP ? begins : fence)(lines, end, depth, true)) end += 1;
  return [end, () => el('p', { dir: 'auto' }, ...inline(lines.slice(at, end).map((line) => line.trimStart()).join('\n')))];
}

const MOST = 200000;
const THOUGHT = /^\s*<think>([\s\S]*?)(?:<\/think>|$)/;

/** A place that shows a growing text; blocks that did not change stay as they are. */
export class Shown {
  constructor() {
    this.node = el('div', { class: 'text' });
    this.drawn = [];
  }

  update(text) {
    const cut = text.length > MOST;
    const found = parts(cut ? text.slice(0, MOST) : text);
    let same = 0;
    while (same < found.length && same < this.drawn.length && found[same].raw === this.drawn[same].raw) same += 1;
    while (this.node.childNodes.length > same) this.node.lastChild.remove();
    for (const one of found.slice(same)) this.node.append(one.draw());
    this.drawn = found;
    if (cut) {
      const sizes = `The first ${MOST.toLocaleString('en')} of ${text.length.toLocaleString('en')} characters are shown.`;
      this.node.append(el('p', { class: 'small', text: `${sizes} Copy takes all of them.` }));
    }
  }
}

function parts(text) {
  const thought = THOUGHT.exec(text);
  const rest = blocks((thought ? text.slice(thought[0].length) : text).replaceAll('\r', '').split('\n'), 0);
  if (!thought?.[1].trim()) return rest;
  const draw = () => el('details', { class: 'thought' }, el('summary', { text: 'What it thought first' }),
    ...drawn(thought[1].split('\n'), 1));
  return [{ raw: thought[0], draw }, ...rest];
}
