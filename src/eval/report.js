// Searching and sorting; without scripts the tables stand in full.
for (const box of document.querySelectorAll("[data-filter]")) {
  const rows = [...document.getElementById(box.dataset.filter).querySelectorAll("[data-row]")];
  const plain = (text) => text.normalize("NFC").toLowerCase();
  const count = box.closest(".find").querySelector("output");
  let texts;
  box.closest(".find").hidden = false;
  box.addEventListener("input", () => {
    for (const part of document.getElementById(box.dataset.filter).querySelectorAll("details"))
      part.open = true;
    texts ??= rows.map((row) => plain(row.textContent));
    const words = plain(box.value).split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, index) => {
      row.hidden = !words.every((word) => texts[index].includes(word));
      shown += !row.hidden;
    });
    count.textContent = words.length ? `${shown} of ${rows.length}` : "";
  });
}
for (const table of document.querySelectorAll(".sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.ariaSort ? head.ariaSort === "ascending" : column > 0;
      for (const other of heads) other.ariaSort = null;
      head.ariaSort = down ? "descending" : "ascending";
      const value = (row) => column ? +row.cells[column].dataset.value : row.cells[0].textContent;
      const order = (a, b) => column ? value(a) - value(b) : value(a).localeCompare(value(b), "ko");
      const rows = [...table.tBodies[0].rows].sort((a, b) => (down ? order(b, a) : order(a, b)));
      table.tBodies[0].append(...rows);
    });
  });
}
