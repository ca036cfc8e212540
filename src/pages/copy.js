
// Adds a copy button to each line meant for a terminal. Everything else on the page works without a script.
(() => {
  const said = document.getElementById("said");
  for (const block of document.querySelectorAll("[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", "Copy " + block.dataset.copy);
    const code = block.querySelector("code");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
      }
      said.textContent = button.textContent + ": " + block.dataset.copy;
      setTimeout(() => { button.textContent = "Copy"; }, 3000);
    });
    block.append(button);
  }
})();
