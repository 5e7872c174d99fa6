"use strict";
// Light, dark, or as the system says. Remembered where the browser lets a file remember.

const THEMES = ["automatic", "light", "dark"];

function remembered() {
  try {
    return localStorage.getItem("madrigal-theme") || THEMES[0];
  } catch {
    return THEMES[0];
  }
}

function useTheme(theme) {
  document.documentElement.dataset.theme = THEMES.includes(theme) ? theme : THEMES[0];
  try {
    localStorage.setItem("madrigal-theme", theme);
  } catch {
    // A page opened from a disk may not be allowed to store anything; the choice then lasts as long as the page.
  }
}

useTheme(remembered());
document.addEventListener("DOMContentLoaded", () => {
  const button = document.getElementById("theme");
  const name = () => (button.textContent = `Theme: ${document.documentElement.dataset.theme}`);
  button.addEventListener("click", () => {
    const place = THEMES.indexOf(document.documentElement.dataset.theme);
    useTheme(THEMES[(place + 1) % THEMES.length]);
    name();
  });
  name();
});
