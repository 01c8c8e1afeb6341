// The accuracy curve, and vectors as small squares: an image where the vector is one, a fingerprint where it is not.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 640, HEIGHT = 240, LEFT = 40, RIGHT = 8, TOP = 16, BOTTOM = 22;
const POINTS_MAX = 320;

function svg(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// The mean of the last `window` answers, at each answer.
export function rollingMean(correct, window) {
  let sum = 0;
  return correct.map((value, place) => {
    sum += value - (place >= window ? correct[place - window] : 0);
    return sum / Math.min(place + 1, window);
  });
}

// `ids` label the axis; `marks` are pairs of place and label for the moments at which a generation began to serve.
export function drawCurve(parent, correct, ids, window, marks) {
  const values = rollingMean(correct, window);
  const x = (place) => LEFT + ((WIDTH - LEFT - RIGHT) * place) / Math.max(1, values.length - 1);
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value);
  const now = values.at(-1);
  const chart = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "curve", role: "img",
    "aria-label": `Accuracy of the last ${window} answers, now ${(100 * now).toFixed(1)} percent` });
  for (const level of [0, 0.25, 0.5, 0.75, 1]) {
    chart.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(level), y2: y(level) }));
    chart.append(svg("text", { x: LEFT - 6, y: y(level) + 4, "text-anchor": "end" }, `${100 * level} %`));
  }
  for (const [place, label] of marks) {
    chart.append(svg("line", { class: "mark", x1: x(place), x2: x(place), y1: TOP, y2: HEIGHT - BOTTOM }));
    chart.append(svg("text", { x: x(place), y: TOP - 5, "text-anchor": "middle" }, label));
  }
  const stride = Math.max(1, Math.ceil(values.length / POINTS_MAX));
  const places = values.map((_, place) => place).filter((place) => place % stride === 0 || place === values.length - 1);
  const line = places.map((place) => `${x(place).toFixed(1)},${y(values[place]).toFixed(1)}`).join(" ");
  chart.append(svg("polygon", { class: "area", points: `${x(0)},${y(0)} ${line} ${x(values.length - 1)},${y(0)}` }));
  chart.append(svg("polyline", { class: "line", points: line }));
  chart.append(svg("text", { x: LEFT, y: HEIGHT - 6 }, `experience ${ids[0]}`));
  chart.append(svg("text", { x: WIDTH - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, `${ids.at(-1)}`));
  parent.replaceChildren(chart);
}

export function drawVector(canvas, vector) {
  const side = Math.ceil(Math.sqrt(vector.length));
  canvas.width = canvas.height = side;
  const lowest = Math.min(...vector), range = Math.max(...vector) - lowest || 1;
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
  vector.forEach((value, place) => {
    context.globalAlpha = (value - lowest) / range;
    context.fillRect(place % side, Math.floor(place / side), 1, 1);
  });
}
