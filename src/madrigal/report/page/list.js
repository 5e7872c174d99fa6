"use strict";
// A list of any length: only the rows in view exist.

const ROW = 64; // pixels, as in page.css
const BEYOND = 4; // rows made beyond both edges

function makeList(box, describe, onChoose) {
  const space = document.createElement("div");
  space.className = "space";
  space.setAttribute("role", "presentation");
  box.append(space);
  let items = [];
  let chosen = -1;

  function row(place) {
    const { title, about, figure } = describe(items[place]);
    const option = make(
      "div",
      { id: `row-${place}`, role: "option", class: "row", "aria-selected": String(place === chosen) },
      make("span", { class: "title" }, title),
      make("span", { class: "number" }, figure),
      make("span", { class: "about" }, about),
    );
    option.setAttribute("aria-setsize", items.length);
    option.setAttribute("aria-posinset", place + 1);
    option.style.top = `${place * ROW}px`;
    option.addEventListener("click", () => choose(place, true));
    return option;
  }

  function draw() {
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - BEYOND);
    const end = Math.min(items.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW) + BEYOND);
    const rows = [];
    for (let place = first; place < end; place += 1) rows.push(row(place));
    space.replaceChildren(...rows);
    space.style.height = `${items.length * ROW}px`;
    if (chosen >= 0) box.setAttribute("aria-activedescendant", `row-${chosen}`);
    else box.removeAttribute("aria-activedescendant");
  }

  function reveal(place) {
    const top = place * ROW;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW - box.clientHeight;
  }

  function choose(place, byHand = false) {
    chosen = items.length ? Math.min(Math.max(place, 0), items.length - 1) : -1;
    if (chosen >= 0) reveal(chosen);
    draw();
    onChoose(items[chosen] || null, byHand);
  }

  function show(found, item) {
    items = found;
    draw(); // so that there is height to scroll in
    choose(Math.max(0, found.indexOf(item)));
  }

  let waiting = false;
  box.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  });
  new ResizeObserver(draw).observe(box);

  return { show, move: (by) => choose(chosen + by), rows: () => Math.max(1, Math.floor(box.clientHeight / ROW)) };
}
