echo "no complaints"
