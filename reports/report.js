// Comfort only: the page says the same without it.
document.documentElement.classList.add("scripted");
const buttons = [...document.querySelectorAll("[data-show]")];
for (const button of buttons) {
  button.addEventListener("click", () => {
    for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
    const all = button.dataset.show === "all";
    for (const row of document.querySelectorAll("[data-verdict]")) {
      const good = ["pass", "measured"].includes(row.dataset.verdict);
      row.classList.toggle("hidden", !all && good);
    }
  });
}
addEventListener("beforeprint", () => {
  for (const item of document.querySelectorAll("details")) item.open = true;
});
