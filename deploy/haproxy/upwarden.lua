-- Asks upwarden about a request: txn.upwarden_allows is 1 if the request is admitted, and the app's request gets the identity headers of
-- upwarden's answer. haproxy.cfg beside this file uses it, and sends all other requests to upwarden itself.

local url = "http://127.0.0.1:4180/upwork/auth/verify"
local identity = { "x-upwork-user-id", "x-upwork-user", "x-upwork-user-name", "x-upwork-organization-id", "x-upwork-assertion", "x-forwarded-user" }
-- The headers that upwarden decides by.
local asked_by = { "host", "cookie", "accept", "user-agent", "origin", "referer", "upgrade", "authorization",
	"x-requested-with", "x-forwarded-for", "x-forwarded-proto", "x-request-id", "sec-fetch-mode", "sec-fetch-dest", "sec-fetch-site",
	"sec-purpose", "access-control-request-method" }

core.register_action("upwarden", { "http-req" }, function(txn)
	local given = txn.http:req_get_headers()
	local headers = {}
	for _, name in ipairs(asked_by) do
		if given[name] then
			headers[name] = {}
			-- HAProxy numbers the lines of a field from 0.
			for line = 0, #given[name] do
				table.insert(headers[name], given[name][line])
			end
		end
	end
	local answer = core.httpclient():get({ url = url, headers = headers, timeout = 10000 })
	txn:set_var("txn.upwarden_allows", answer.status == 204 and 1 or 0)
	for _, name in ipairs(identity) do
		if answer.headers and answer.headers[name] then
			txn.http:req_set_header(name, answer.headers[name][0])
		end
	end
end)
