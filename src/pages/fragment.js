
// Reads what Upwork put behind the #, wipes it, and hands it over in the body of a POST.
(() => {
  const given = new URLSearchParams(location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
  const form = document.createElement("form");
  form.method = "post";
  form.action = document.getElementById("main").querySelector("[data-callback]").dataset.callback;
  form.hidden = true;
  for (const name of ["access_token", "expires_in", "state", "error"]) {
    if (!given.has(name)) continue;
    const field = document.createElement("input");
    field.type = "hidden";
    field.name = name;
    field.value = given.get(name);
    form.append(field);
  }
  document.body.append(form);
  form.submit();
  form.remove();
})();
