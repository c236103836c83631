# Parses the name of a period: { rotation, isFirst }, or null for anything else, such as 2026-13.
name:
let
  parts =
    if builtins.stringLength name > 10 then
      null
    else
      builtins.match "([0-9]{4})(-Q([1-4])|-W([0-9]{2})|-([0-9]{2})(-([0-9]{2}))?)?" name;
  part = builtins.elemAt parts;
  # fromJSON takes no leading zeros.
  number = digits: builtins.fromJSON (builtins.head (builtins.match "0*([0-9]+)" digits));
  year = number (part 0);
  mod = a: b: a - (a / b) * b;
  isLeap = mod year 4 == 0 && (mod year 100 != 0 || mod year 400 == 0);
  before = year - 1;
  # The weekday of 1 January: 0 for Monday, as in year 1.
  firstDay = mod (before * 365 + before / 4 - before / 100 + before / 400) 7;
  weeks = if firstDay == 3 || (isLeap && firstDay == 2) then 53 else 52;
  month = number (part 4);
  days = builtins.elemAt [
    31
    (if isLeap then 29 else 28)
    31
    30
    31
    30
    31
    31
    30
    31
    30
    31
  ] (month - 1);
  within = from: to: value: value >= from && value <= to;
  period = rotation: first: {
    inherit rotation;
    isFirst = year == 1 && first == 1;
  };
in
if parts == null || year == 0 then
  null
else if part 2 != null then
  period "quarterly" (number (part 2))
else if part 3 != null then
  (if within 1 weeks (number (part 3)) then period "weekly" (number (part 3)) else null)
else if part 4 == null then
  period "yearly" 1
else if !within 1 12 month then
  null
else if part 6 == null then
  period "monthly" month
else if within 1 days (number (part 6)) then
  period "daily" (if month == 1 then number (part 6) else 2)
else
  null
