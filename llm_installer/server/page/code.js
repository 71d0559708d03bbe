// A little colour for code: comments, texts, numbers and the commonest keywords, for any language alike.

import { el } from './dom.js';

const MOST = 20000;
const HASH = new Set(['python', 'py', 'sh', 'bash', 'shell', 'console', 'zsh', 'yaml', 'yml', 'ruby', 'rb', 'r', 'toml', 'make', 'dockerfile', 'perl']);
const SLASH = new Set(['js', 'javascript', 'ts', 'typescript', 'jsx', 'tsx', 'c', 'cpp', 'c++', 'h', 'java', 'go', 'rust', 'rs', 'css', 'php', 'swift', 'kotlin', 'cs', 'csharp', 'scala', 'json', 'dart']);
const DASH = new Set(['sql', 'lua', 'haskell', 'hs']);
const WORDS = new Set((
  'and as async await break case catch class const continue def default defer del do elif else enum except export extends '
  + 'extern final finally fn for from func function global if impl implements import in interface is lambda let loop match '
  + 'mod mut namespace new nil None not null or package pass private protected pub public raise return self static struct '
  + 'super switch this throw throws trait True False true false try type typedef typeof undefined union unsafe use using var '
  + 'void where while with yield echo fi then done esac select insert update delete into values create table join on group '
  + 'order by having limit SELECT FROM WHERE INSERT UPDATE DELETE INTO VALUES CREATE TABLE JOIN ON GROUP ORDER BY HAVING LIMIT'
).split(' '));

const TEXT = '"(?:[^"\\\\\\n]|\\\\.)*"|\'(?:[^\'\\\\\\n]|\\\\.)*\'|`(?:[^`\\\\]|\\\\.)*`';
const form = (comment) => new RegExp(`(${comment})|(${TEXT})|(\\b\\d[\\w.]*)|([A-Za-z_]\\w*)`, 'g');
const FORMS = [[HASH, form('#[^\\n]*')], [SLASH, form('//[^\\n]*|/\\*[\\s\\S]*?\\*/')], [DASH, form('--[^\\n]*')]];
const KINDS = ['remark', 'string', 'number', 'word'];

/** The pieces of a code text, coloured where its language is known. */
export function coloured(text, language) {
  const found = FORMS.find(([names]) => names.has(language.toLowerCase()))?.[1];
  if (!found || text.length > MOST) return [text];
  const pieces = [];
  let at = 0;
  for (const match of text.matchAll(found)) {
    const kind = KINDS[match.slice(1).findIndex((group) => group !== undefined)];
    if (kind === 'word' && !WORDS.has(match[0])) continue;
    pieces.push(text.slice(at, match.index), el('span', { class: `c-${kind}`, text: match[0] }));
    at = match.index + match[0].length;
  }
  return [...pieces, text.slice(at)];
}
