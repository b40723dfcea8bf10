# TODO: quote the name, or spaces break it
echo Hello $1
# TODO: a nicer banner
