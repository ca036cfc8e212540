// Asks for the page again, at growing intervals, and opens it once the answer has changed. Without scripts the page refreshes.
(() => {
  const { retry, status } = document.querySelector("[data-retry]").dataset;
  let wait = Number(retry) * 1000;
  const ask = async () => {
    try {
      const answer = await fetch(location.href, { method: "HEAD", cache: "no-store", redirect: "manual" });
      if (answer.status !== Number(status)) {
        location.reload();
        return;
      }
    } catch {
      // This site itself cannot be reached right now.
    }
    wait = Math.min(wait * 1.5, 30000);
    setTimeout(ask, wait);
  };
  setTimeout(ask, wait);
})();
