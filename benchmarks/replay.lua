-- Replays the requests of a file in turn, with a new key for each write, and checks every body.

local given = dofile(os.getenv("REQUESTS"))
local KEY = "@idempotency_key@"
local prepared, number, threads = {}, 0, {}

bad, example = 0, ""

function setup(thread)
  table.insert(threads, thread)
end

function init()
  for index, request in ipairs(given.requests) do
    prepared[index] = wrk.format(request.method, request.path, request.headers, request.body)
  end
end

function request()
  number = number + 1
  local text = prepared[(number - 1) % #prepared + 1]
  if given.keyed then
    -- As long as its placeholder, so that Content-Length stays true.
    local key = string.format("%s-%08d", given.run, number)
    text = text:gsub(KEY, key, 1)
  end
  return text
end

-- Whether a body begins and ends like JSON and names the expected number of SKUs.
local function names_skus(body, expected)
  if not body:find("^%s*[%[{].*[%]}]%s*$") then return false end
  local _, count = body:gsub('"SKU%-%d+"', "")
  return count == expected
end

function response(status, _, body)
  local right = (status == 200 or status == 201) and not body:find('"errors"', 1, true)
  if given.expected then
    right = right and given.expected[body]
  else
    right = right and names_skus(body, given.skus)
  end
  if not right then
    bad = bad + 1
    example = status .. " " .. body:sub(1, 500)
  end
end

function done(summary, latency)
  local bad, example = 0, ""
  for _, thread in ipairs(threads) do
    bad = bad + thread:get("bad")
    if thread:get("example") ~= "" then example = thread:get("example") end
  end
  local errors = summary.errors
  local lost = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    "RESULT %d %d %d %d %d %d\n%s\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    bad, lost, example
  ))
end
