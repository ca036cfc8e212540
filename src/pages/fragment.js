
// Reads what Upwork put after the #, removes it from the address, and sends it in the body of a POST.
(() => {
  const given = new URLSearchParams(location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
  const form = document.createElement("form");
  form.method = "post";
  form.action = document.getElementById("main").querySelector("[data-callback]").dataset.callback;
  form.hidden = true;
  const known = ["access_token", "token_type", "expires_in", "state", "iss", "error", "error_description"];
  // A repeated parameter stays repeated, so that the callback refuses it.
  for (const [name, value] of given) {
    if (!known.includes(name)) continue;
    const field = document.createElement("input");
    field.type = "hidden";
    field.name = name;
    field.value = value;
    form.append(field);
  }
  document.body.append(form);
  form.submit();
  form.remove();
})();
