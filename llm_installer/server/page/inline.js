// What stands inside a line of Markdown. Every search for an end is cut short, so that no text takes long.

import { el } from './dom.js';

const DEEP = 4;
const LONG = 20000; // a longer text is shown as it is
const TRIES = 40; // places where a mark may close
const LABEL = 500;
const ADDRESS = 2000;

const PLAIN = /[^\\`*_~![h<]+/y;
const WEB = /https?:\/\/[^\s<>"'`]{1,2000}/y;
const TRAILING = '.,;:!?)]}*_';
const BREAK = /<br ?\/?>/iy;
const PUNCTUATION = /[!-/:-@[-`{-~]/;
const WORD = /[\p{L}\p{N}_]/u;
const MARKS = [['**', 'strong'], ['__', 'strong'], ['~~', 'del'], ['*', 'em'], ['_', 'em']];

/** The nodes of a text; line breaks stay in it, and the style sheet keeps them. */
export function inline(text, depth = 0, linked = false) {
  if (text.length > LONG || depth > DEEP) return [text];
  const nodes = [];
  let plain = '';
  let at = 0;
  const put = (node) => {
    if (plain) nodes.push(plain);
    plain = '';
    nodes.push(node);
  };
  while (at < text.length) {
    PLAIN.lastIndex = at;
    const run = PLAIN.exec(text)?.[0] ?? '';
    plain += run;
    at += run.length;
    if (at >= text.length) break;
    const found = special(text, at, depth, linked);
    if (found) {
      if (typeof found[1] === 'string') plain += found[1];
      else put(found[1]);
      [at] = found;
    } else {
      plain += text[at];
      at += 1;
    }
  }
  if (plain) nodes.push(plain);
  return nodes;
}

/** Where it ends and what it is, or null for a character that means nothing. */
function special(text, at, depth, linked) {
  const here = text[at];
  if (here === '\\') return PUNCTUATION.test(text[at + 1] ?? '') ? [at + 2, text[at + 1]] : null;
  if (here === '`') return ticks(text, at);
  if (here === '<') return sticky(BREAK, text, at) ? [at + BREAK.lastIndex - at, el('br')] : null;
  if (here === 'h') return linked ? null : bare(text, at);
  if (here === '[' || here === '!') return linked ? null : link(text, at, depth);
  return emphasis(text, at, depth, linked);
}

function sticky(form, text, at) {
  form.lastIndex = at;
  return form.exec(text)?.[0] ?? '';
}

function ticks(text, at) {
  let end = at;
  while (text[end] === '`') end += 1;
  const mark = text.slice(at, end);
  let close = end;
  for (let tries = 0; tries < TRIES; tries += 1) {
    close = text.indexOf(mark, close);
    if (close < 0) break;
    if (text[close + mark.length] !== '`' && text[close - 1] !== '`') {
      return [close + mark.length, el('code', { text: text.slice(end, close).replaceAll('\n', ' ').trim() })];
    }
    while (text[close] === '`') close += 1;
  }
  return [end, mark];
}

/** An address that may be followed: http or https, and nothing else. */
export function safe(address) {
  try {
    const url = new URL(address);
    return ['http:', 'https:'].includes(url.protocol) ? url.href : '';
  } catch {
    return '';
  }
}

function anchor(address, ...words) {
  return el('a', { href: address, rel: 'noopener noreferrer nofollow', target: '_blank', title: address }, ...words);
}

function bare(text, at) {
  let found = sticky(WEB, text, at);
  while (TRAILING.includes(found.at(-1) ?? ' ') && !(found.endsWith(')') && paired(found))) found = found.slice(0, -1);
  const address = found && safe(found);
  return address ? [at + found.length, anchor(address, found)] : null;
}

const paired = (address) => address.split('(').length === address.split(')').length;

/** Links go where their address says; of an image only its description is shown, as a link. */
function link(text, at, depth) {
  const picture = text[at] === '!';
  const open = picture ? at + 1 : at;
  if (text[open] !== '[') return null;
  const close = text.slice(open, open + LABEL).indexOf('](');
  if (close < 0) return null;
  const label = text.slice(open + 1, open + close);
  const begin = open + close + 2;
  const rest = text.slice(begin, begin + ADDRESS);
  const end = closing(rest);
  if (end < 0 || label.includes('\n\n')) return null;
  const target = rest.slice(0, end).trim().split(/\s/)[0].replace(/^<|>$/g, '');
  const address = safe(target);
  const words = picture ? [label ? `Image: ${label}` : 'Image'] : inline(label, depth + 1, true);
  const node = address ? anchor(address, ...words) : el('span', {}, ...words);
  return [begin + end + 1, node];
}

/** Where the bracket of an address closes; addresses may have brackets in pairs. */
function closing(rest) {
  let open = 0;
  for (let at = 0; at < rest.length; at += 1) {
    if (rest[at] === '\n') return -1;
    if (rest[at] === '(') open += 1;
    if (rest[at] === ')') {
      if (!open) return at;
      open -= 1;
    }
  }
  return -1;
}

function emphasis(text, at, depth, linked) {
  for (const [mark, tag] of MARKS) {
    if (!text.startsWith(mark, at)) continue;
    const begin = at + mark.length;
    const close = opens(text, at, mark) ? ends(text, begin, mark) : -1;
    if (close > begin) {
      return [close + mark.length, el(tag, {}, ...inline(text.slice(begin, close), depth + 1, linked))];
    }
    if (mark.length === 2) return [begin, mark];
  }
  return null;
}

const space = (character) => character === undefined || /\s/.test(character);

function opens(text, at, mark) {
  return !space(text[at + mark.length]) && (mark[0] !== '_' || !WORD.test(text[at - 1] ?? ''));
}

function ends(text, begin, mark) {
  let at = begin;
  for (let tries = 0; tries < TRIES; tries += 1) {
    at = text.indexOf(mark, at);
    if (at < 0) return -1;
    const longer = text[at + mark.length] === mark[0];
    const whole = mark.length === 2 || (!longer && text[at - 1] !== mark[0]);
    const inWord = mark[0] === '_' && WORD.test(text[at + mark.length] ?? '');
    if (mark.length === 2 && longer) at += 1; // the last two of three close
    if (!space(text[at - 1]) && text[at - 1] !== '\\' && whole && !inWord) return at;
    at += mark.length;
  }
  return -1;
}
