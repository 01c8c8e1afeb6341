// Numbers, times and elements as people read them. Text only ever enters the page as text.

const whole = new Intl.NumberFormat("en");

export const count = (value) => whole.format(value);
export const share = (value) => (value == null ? "–" : `${(100 * value).toFixed(0)} %`);
export const fixed = (value, digits = 2) => (value == null ? "–" : value.toFixed(digits));
export const clock = (unixS) => new Date(unixS * 1000).toLocaleTimeString();

export function bytes(value) {
  const unit = Math.min(4, Math.floor(Math.log2(Math.max(1, value)) / 10));
  return `${(value / 1024 ** unit).toFixed(unit ? 1 : 0)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

export function span(seconds) {
  if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

export const by = (id) => document.getElementById(id);

export function say(id, text) {
  const element = by(id);
  if (element.textContent !== text) element.textContent = text;
}

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child != null));
  return made;
}
