# TODO: say hello in more languages
echo hello  # TODO: ask for the name
