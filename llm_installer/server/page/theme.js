// Light or dark before anything is drawn, so that the page never flashes. No module: modules come too late for that.
'use strict';
try {
  const theme = JSON.parse(localStorage.getItem('llm-installer:settings') || '{}').theme;
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // A browser that keeps nothing shows what the system prefers.
}
