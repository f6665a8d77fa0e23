"use strict";
const dark = matchMedia("(prefers-color-scheme: dark)");
const coarse = matchMedia("(pointer: coarse)").matches;
const figures = JSON.parse(document.getElementById("figures").textContent);

function template() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = {
    gridcolor: colour("--line"), linecolor: colour("--line"), zerolinecolor: colour("--line"),
    automargin: true,
  };
  return {
    layout: {
      font: { color: colour("--text"), family: getComputedStyle(document.body).fontFamily, size: 12 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      xaxis: axis, yaxis: axis,
      hoverlabel: {
        bgcolor: colour("--card"), bordercolor: colour("--line"), align: "left",
        font: { color: colour("--text") },
      },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--quiet"), activecolor: colour("--link") },
      margin: { l: 60, r: 20, t: 40, b: 60 },
    },
  };
}

function layoutOf(figure) {
  // On a touch screen a finger scrolls the page; the buttons zoom.
  const touch = coarse ? { dragmode: false } : {};
  return { ...figure.layout, ...touch, template: template(), autosize: true };
}

function draw(place) {
  const figure = figures[place.dataset.figure];
  const config = { responsive: true, displaylogo: false };
  return Plotly.react(place, figure.data, layoutOf(figure), config);
}

// plotly shows nothing over a line of parallel coordinates, but says which one it is.
function nameLines(place, data) {
  const label = place.parentElement.parentElement.querySelector("figcaption")
    .insertAdjacentElement("beforebegin", document.createElement("p"));
  label.className = "quiet";
  label.textContent = "Point at a line to read its trial.";
  place.on("plotly_hover", (event) => {
    const number = event.curveNumber;
    if (number === undefined || data.customdata[number] === undefined) return;
    label.innerHTML = data.customdata[number].replaceAll("<br>", " · ");
  });
}

async function drawAll() {
  for (const place of document.querySelectorAll(".picture")) {
    await draw(place);
    const data = figures[place.dataset.figure].data[0];
    if (data && data.type === "parcoords") nameLines(place, data);
    // The page stays responsive between two figures.
    await new Promise((resolve) => setTimeout(resolve));
  }
  document.documentElement.dataset.drawn = "all";
}

dark.addEventListener("change", () => document.querySelectorAll(".picture").forEach(draw));
for (const button of document.querySelectorAll(".code button")) {
  button.addEventListener("click", async () => {
    const text = button.parentElement.querySelector("pre");
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "Selected";
    }
  });
}
drawAll();
