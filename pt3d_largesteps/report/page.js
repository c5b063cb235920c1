const data = JSON.parse(document.getElementById("data").textContent);
const { frames, topologies, target } = data;
const at = (id) => document.getElementById(id);
const count = (packed) => `${topologies[packed.topology].vertices.toLocaleString("en")} vertices`;
const VIEWS = target ? { beside: "side by side", over: "overlaid", result: "result", target: "target" } : { result: "result" };
const MILLISECONDS = Math.min(250, Math.max(60, 8000 / frames.length));

let viewer = null;
let playing = null;
try {
  viewer = new Viewer(at("canvas"), data);
} catch (error) {
  at("trouble").hidden = false;
  at("trouble").textContent = `The shapes cannot be shown, for want of WebGL in this browser (${error.message}). Curves and tables are below.`;
}

const curves = data.curves.filter(({ values }) => values.some((value) => value !== null));
let chart = null;
if (curves.length) {
  at("curves").hidden = false;
  chart = new Chart(at("chart"), { curves, stages: data.stages }, (step) => {
    pause();
    show(nearest(step));
  });
  if (!chart.positive) at("curves").querySelector("small").textContent = "dashed where a stage begins; click for the shape at a step";
  legend();
}

function show(index) {
  const frame = frames[index];
  at("frame").value = index;
  at("step").value = `step ${frame.step.toLocaleString("en")} of ${frames[frames.length - 1].step.toLocaleString("en")}`;
  caption(at("result-caption"), frame.label ? `result, ${frame.label}` : "result", count(frame));
  viewer?.show(index);
  chart?.setStep(frame.step);
}

function nearest(step) {
  return frames.reduce((best, frame, index) => (Math.abs(frame.step - step) < Math.abs(frames[best].step - step) ? index : best), 0);
}

function caption(place, name, text) {
  const bold = document.createElement("b");
  bold.textContent = name;
  place.replaceChildren(bold, ` ${text}`);
}

function legend() {
  const entries = curves.flatMap(({ name, values }, index) => {
    const other = index ? "other" : "";
    const reach = Math.floor(values.length / 100);
    return runningMean(values) ? [[`${other} raw`, name], [other, `mean over ${2 * reach + 1} steps`]] : [[other, name]];
  });
  at("legend").replaceChildren(...entries.map(([style, words]) => {
    const entry = document.createElement("span");
    const line = document.createElement("i");
    line.className = style;
    entry.append(line, words);
    return entry;
  }));
}

function play() {
  if (Number(at("frame").value) === frames.length - 1) show(0);
  playing = setInterval(() => {
    const next = Number(at("frame").value) + 1;
    show(next);
    if (next === frames.length - 1) pause();
  }, MILLISECONDS);
  at("play").textContent = "Pause";
}

function pause() {
  clearInterval(playing);
  playing = null;
  at("play").textContent = "Play";
}

// Where the captions stand depends on what is shown, and on the form of the canvas.
function placeCaptions() {
  const view = viewer?.view ?? "result";
  const stacked = at("canvas").clientWidth < at("canvas").clientHeight;
  const places = { beside: stacked ? ["0", "50%"] : ["0", "0"], over: ["0", "1.6rem"], result: ["0", "0"], target: ["0", "0"] };
  at("target-caption").hidden = !target || view === "result";
  at("result-caption").hidden = view === "target";
  at("target-caption").style.top = places[view][0];
  at("result-caption").style.top = places[view][1];
  at("result-caption").style.left = view === "beside" && !stacked ? "50%" : "0";
}

function look() {
  viewer?.setLook({ wireframe: at("wireframe").checked, flat: at("flat").checked });
}

for (const [view, words] of Object.entries(VIEWS)) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "view", value: view });
  input.checked = view === Object.keys(VIEWS)[0];
  input.addEventListener("change", () => {
    viewer?.setView(view);
    placeCaptions();
  });
  label.append(input, words);
  at("views").append(label);
}
at("views").hidden = Object.keys(VIEWS).length < 2;
at("frame").max = frames.length - 1;
at("frame").addEventListener("input", () => {
  pause();
  show(Number(at("frame").value));
});
at("play").addEventListener("click", () => (playing ? pause() : play()));
at("play").hidden = at("frame").hidden = frames.length < 2;
at("wireframe").addEventListener("change", look);
at("flat").addEventListener("change", look);
at("reset").addEventListener("click", () => viewer?.reset());
document.addEventListener("keydown", (event) => {
  if (event.key !== " " || event.target.closest("button, input, summary")) return;
  event.preventDefault();
  at("play").click();
});
new ResizeObserver(placeCaptions).observe(at("canvas"));
if (target) caption(at("target-caption"), "target", count(target));
placeCaptions();
show(frames.length - 1);
