-- Each of 100 hosts and 10 paths in turn, spread by a step that shares no factor with 1,000.
local requests = {}
function init()
  for route = 0, 999 do
    wrk.headers["Host"] = "h" .. math.floor(route / 10) .. ".bench.test"
    requests[route] = wrk.format("GET", "/p" .. route % 10)
  end
end

local route = 0
function request()
  route = (route + 617) % 1000
  return requests[route]
end
