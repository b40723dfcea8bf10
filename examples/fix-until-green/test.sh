left=$((2 - $(cat fixed 2>/dev/null | wc -l)))
if [ "$left" -gt 0 ]; then
  echo "$left tests fail"
  exit 1
fi
echo "all tests pass"
