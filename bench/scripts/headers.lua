-- Thirty fields, as browsers and gateways send them: 2.5 KiB.
local fields = {
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
  ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
  ["Accept-Language"] = "en-GB,en;q=0.9,de;q=0.8",
  ["Accept-Encoding"] = "identity",
  ["Cache-Control"] = "no-cache",
  ["Cookie"] = "session=" .. string.rep("a1b2c3d4", 24) .. "; theme=dark; consent=" .. string.rep("z", 96),
  ["Referer"] = "https://bench.test/some/page/of/the/site?with=a&query=string",
  ["Authorization"] = "Bearer " .. string.rep("eyJhbGciOi", 40),
  ["Sec-Fetch-Mode"] = "navigate",
  ["Sec-Fetch-Site"] = "same-origin",
}
for number = 1, 19 do
  fields["X-Request-Field-" .. number] = "value " .. number .. " of the request"
end
for name, value in pairs(fields) do
  wrk.headers[name] = value
end
