echo "one of: $ERRORS" >> fixed
