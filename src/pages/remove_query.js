// The query holds a code: out of the address bar and the tab's history with it.
history.replaceState(null, "", location.pathname);
