// The query contains a code: remove it from the address bar and from the tab's history.
history.replaceState(null, "", location.pathname);
