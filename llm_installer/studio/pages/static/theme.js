// Before the first paint: the colours that were chosen, else those of the system.
const chosen = localStorage.getItem('llm-installer:theme');
if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
