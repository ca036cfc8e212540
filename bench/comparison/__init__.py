"""What `bench/compare` is made of.

processes   starts and ends processes, and reads what they cost
tools       finds and installs the programs that are compared
echo        the app's WebSocket, a process of its own
backend     the app and the Upwork behind every proxy
browser     signs in as a browser would
peers       the proxies: how each is configured and started
load        makes requests and counts the answers
sessions    makes a million sessions
cases       what is measured
report      ratios, Markdown, JSON and SVG
"""
