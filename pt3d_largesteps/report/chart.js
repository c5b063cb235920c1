// Curves over the steps, drawn anew for every width, so that the letters keep their size.
class Chart {
  constructor(place, { curves, stages }, onPick) {
    Object.assign(this, { place, curves, stages, step: 0 });
    this.positive = curves.every(({ values }) => values.every((value) => value === null || value > 0));
    const values = curves.flatMap((curve) => curve.values).filter((value) => value !== null);
    this.steps = Math.max(1, ...curves.map(({ steps }) => steps[steps.length - 1] ?? 0));
    // Not by Math.min(...values), which has room for some 100,000 arguments only.
    const least = values.reduce((a, b) => Math.min(a, b), Infinity);
    const most = values.reduce((a, b) => Math.max(a, b), -Infinity);
    const [low, high] = [this.scale(least), this.scale(most)];
    const margin = 0.06 * (high - low) || 0.5;
    Object.assign(this, { low: low - margin, high: high + margin });
    const pick = (event) => onPick((this.steps * (event.clientX - this.svg.getBoundingClientRect().left - this.left)) / this.inner);
    place.addEventListener("pointerdown", pick);
    place.addEventListener("pointermove", (event) => event.buttons === 1 && pick(event));
    new ResizeObserver(() => this.draw()).observe(place);
    this.draw();
  }

  scale(value) {
    return this.positive ? Math.log10(value) : value;
  }

  x(step) {
    return this.left + (this.inner * step) / this.steps;
  }

  y(value) {
    return this.top + (this.height * (this.high - this.scale(value))) / (this.high - this.low);
  }

  draw() {
    const width = this.place.clientWidth;
    if (!width) return;
    Object.assign(this, { left: 58, top: 22, height: width < 500 ? 170 : 230 });
    this.inner = width - this.left - 14;
    const bottom = this.top + this.height;
    this.svg = element("svg", { width, height: bottom + 40 });
    for (const value of this.valueTicks()) {
      this.line("grid", this.left, this.y(value), width - 14, this.y(value));
      this.text(this.left - 8, this.y(value) + 4, number(value), "end");
    }
    for (const step of roundTicks(0, this.steps, width / 110)) {
      this.line("grid", this.x(step), bottom, this.x(step), bottom + 5);
      this.text(this.x(step), bottom + 19, step.toLocaleString("en"), "middle");
    }
    this.text(this.left + this.inner / 2, bottom + 36, "step", "middle");
    let free = 0;
    this.stages.forEach(({ step, label }, index) => {
      if (index) this.line("mark", this.x(step), this.top - 6, this.x(step), bottom);
      const length = 6.4 * label.length;
      const start = Math.max(this.left, Math.min(this.x(step) + 4, width - length));
      if (start < free) return;  // no room beside the label before
      this.text(start, this.top - 9, label, "start");
      free = start + length + 8;
    });
    this.curves.forEach((curve, index) => {
      const other = index ? " other" : "";
      const smooth = runningMean(curve.values);
      if (smooth) this.curve(`curve raw${other}`, curve.steps, curve.values);
      this.curve(`curve${other}`, curve.steps, smooth ?? curve.values);
    });
    this.cursor = this.line("cursor", 0, this.top, 0, bottom);
    this.place.replaceChildren(this.svg);
    this.setStep(this.step);
  }

  setStep(step) {
    this.step = step;
    for (const name of ["x1", "x2"]) this.cursor?.setAttribute(name, this.x(Math.min(step, this.steps)));
  }

  valueTicks() {
    if (!this.positive) return roundTicks(this.low, this.high, 5);
    const factors = this.high - this.low < 0.6 ? [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9] : this.high - this.low < 2 ? [1, 2, 5] : [1];
    const ticks = [];
    for (let power = Math.floor(this.low); power <= this.high; power++) {
      for (const factor of factors) ticks.push(factor * 10 ** power);
    }
    return ticks.filter((tick) => Math.log10(tick) >= this.low && Math.log10(tick) <= this.high);
  }

  curve(name, steps, values) {
    let path = "";
    let pen = "M";
    values.forEach((value, index) => {
      path += value === null ? "" : `${pen}${this.x(steps[index]).toFixed(1)} ${this.y(value).toFixed(1)}`;
      pen = value === null ? "M" : "L";
    });
    this.svg.append(element("path", { class: name, d: path }));
  }

  line(name, x1, y1, x2, y2) {
    const line = element("line", { class: name, x1, y1, x2, y2 });
    this.svg.append(line);
    return line;
  }

  text(x, y, words, anchor) {
    const text = element("text", { x, y, "text-anchor": anchor });
    text.textContent = words;
    this.svg.append(text);
  }
}

// Over a fiftieth of the curve, to both sides; null for a curve of few points.
function runningMean(values) {
  const reach = Math.floor(values.length / 100);
  if (reach < 2 || values.includes(null)) return null;
  const sums = [0];
  for (const value of values) sums.push(sums[sums.length - 1] + value);
  return values.map((_, index) => {
    const [from, to] = [Math.max(0, index - reach), Math.min(values.length, index + reach + 1)];
    return (sums[to] - sums[from]) / (to - from);
  });
}

function roundTicks(low, high, number) {
  const rough = (high - low) / Math.max(number, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max([1, 2, 5, 10].find((factor) => factor * power >= rough) * power, low === 0 ? 1 : 0);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + 1e-9 * step; tick += step) ticks.push(tick);
  return ticks;
}

function number(value) {
  return value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5) ? value.toExponential(0) : String(Number(value.toPrecision(3)));
}

function element(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
