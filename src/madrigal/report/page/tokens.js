"use strict";
// Text on the page: always as text, never as markup; what nobody would see is spelled out, and tokens are shaded.

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children); // strings become text nodes
  return element;
}

// Control characters, and those that turn the direction of writing.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]|\p{Surrogate}/gu;
const visible = (text) =>
  text.replace(UNSEEN, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);

const SURPRISE = [0.1, 0.5, 1, 2, 4]; // nats: where one shade ends and the next begins
const PUSH = [0.05, 0.2, 0.4, 0.6, 0.8]; // 1 - probability
const level = (value, ends) => ends.filter((end) => value >= end).length;

// The gradient of a token's log-prob with respect to its own logit is 1 - p: a token that was certain is not moved.
function shade(surprise, advantage, by) {
  if (by === "chance") return `chance-${level(surprise, SURPRISE)}`;
  if (by === "credit" && advantage) {
    return `${advantage > 0 ? "up" : "down"}-${level(1 - Math.exp(-surprise), PUSH)}`;
  }
  return "plain";
}

function answer(turn, by) {
  const box = make("div", { class: "answer", dir: "auto" });
  if (!turn.pieces) {
    const whole = by === "credit" && turn.advantage ? (turn.advantage > 0 ? "up-2" : "down-2") : "plain";
    box.append(make("span", { class: whole }, visible(turn.text)));
    return box;
  }
  const letters = Array.from(turn.text); // whole characters, as lengths are counted in
  let place = 0;
  turn.pieces.forEach((length, number) => {
    const piece = letters.slice(place, place + length).join("");
    place += length;
    const surprise = turn.surprise[number] / 100;
    // The space before a word is not shaded: at the end of a line it would be a shade of nothing.
    const word = piece.trimStart() || piece;
    box.append(piece.slice(0, piece.length - word.length));
    const token = make("span", { class: `token ${shade(surprise, turn.advantage, by)}` }, visible(word));
    token.dataset.surprise = surprise;
    if (!length) {
      token.classList.add("silent");
      token.textContent = number === turn.pieces.length - 1 && turn.finish === "stop" ? "⏎" : "";
    }
    box.append(token);
  });
  return box;
}

function readout(token) {
  const surprise = Number(token.dataset.surprise);
  const chance = 100 * Math.exp(-surprise);
  const name = token.classList.contains("silent") ? "(no text)" : `“${token.textContent}”`;
  return `${name}: probability ${chance.toPrecision(2)} %, log-prob ${surprise ? "−" : ""}${surprise.toFixed(2)} nats`;
}
