"use strict";
for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, heads = [...head.parentElement.children];
    const body = head.closest("table").tBodies[0], column = heads.indexOf(head);
    const sign = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
    const value = (row) => row.children[column].dataset.value ?? row.children[column].textContent.trim();
    const known = (text) => text !== "n/a" && text !== "nan";
    const order = (one, other) => {
      const [a, b] = [value(one), value(other)];
      if (!known(a) || !known(b)) return known(b) - known(a);
      const numbers = [Number(a), Number(b)];
      return sign * (numbers.some(Number.isNaN) ? a.localeCompare(b) : numbers[0] - numbers[1]);
    };
    body.append(...[...body.rows].sort(order));
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  });
}
