"use strict";

// Sample panels: one is shown, the slider chooses which.
for (const strip of document.querySelectorAll(".strip")) {
  const panels = [...strip.querySelectorAll("img")];
  const slider = strip.querySelector("input");
  const output = strip.querySelector("output");
  const show = () => {
    panels.forEach((panel, index) => { panel.hidden = index !== Number(slider.value); });
    const when = panels[slider.value].dataset.when;
    output.textContent = when;
    slider.setAttribute("aria-valuetext", when);
  };
  slider.addEventListener("input", show);
  show();
}

// Charts: the values nearest to the pointer, or to where the arrow keys went.
const format = (value) => value === null ? "not finite" : String(value);

for (const svg of document.querySelectorAll("svg[data-chart]")) {
  const { width, lines } = JSON.parse(svg.dataset.chart);
  const cross = svg.querySelector(".cross");
  const reading = svg.parentElement.querySelector(".reading");
  const longest = lines.reduce((a, b) => a.points.length >= b.points.length ? a : b).points;
  let index = longest.length - 1;

  const show = (x) => {
    const nearest = (points) => points.reduce(
      (a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
    const [at, images] = nearest(longest);
    cross.setAttribute("x1", at);
    cross.setAttribute("x2", at);
    cross.removeAttribute("hidden");
    const values = lines.map((line) => {
      const value = format(nearest(line.points)[2]);
      return lines.length > 1 ? `${line.name} ${value}` : value;
    });
    reading.textContent = `${images.toLocaleString("en")} images: ${values.join(", ")}`;
  };
  const hide = () => { cross.setAttribute("hidden", ""); reading.textContent = ""; };

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    show((event.clientX - box.left) / box.width * width);
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    index = Math.min(Math.max(index + by, 0), longest.length - 1);
    show(longest[index][0]);
  });
}
