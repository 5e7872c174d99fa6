"use strict";
// Only in `madrigal view`: asks every two seconds whether the runs have new lines, and puts the new page in place.

const EVERY = 2000;
let shownStamp = document.documentElement.dataset.stamp;

// Whoever selects text or fills in a field is not disturbed.
function isBusy() {
  return document.hidden || String(getSelection()) !== "" || document.activeElement?.matches("input, select") === true;
}

function say(text) {
  byId("live").textContent = text;
}

function put(fresh) {
  const place = scrollY;
  const fields = [...byId("filters").elements].filter((field) => field.name).map((field) => [field.name, field.value]);
  const shade = document.querySelector("#shading input:checked").value;
  const open = new Set([...document.querySelectorAll("details[open] > summary")].map((summary) => summary.textContent));
  for (const part of ["main", "header .state", "header nav", "header h1", "#live"]) {
    document.querySelector(part).replaceWith(document.adoptNode(fresh.querySelector(part)));
  }
  byId("block").textContent = fresh.getElementById("block").textContent;
  for (const summary of document.querySelectorAll("details > summary")) {
    if (open.has(summary.textContent)) summary.parentElement.open = true;
  }
  begin(() => {
    for (const [name, value] of fields) byId("filters").elements[name].value = value;
    document.querySelector(`#shading input[value="${shade}"]`).click();
    scrollTo(0, place);
  });
}

async function look() {
  try {
    const answer = await fetch("/stamp", { cache: "no-store" });
    const { stamp, now, problem } = await answer.json();
    if (problem) say(problem);
    else if (stamp === shownStamp) say(now);
    else if (!isBusy()) {
      const page = await fetch("/", { cache: "no-store" });
      if (page.ok) {
        put(new DOMParser().parseFromString(await page.text(), "text/html"));
        shownStamp = stamp;
      }
    }
  } catch {
    say("madrigal view no longer answers; this is what it showed last.");
  }
  setTimeout(look, EVERY);
}

setTimeout(look, EVERY);
