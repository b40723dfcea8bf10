#!/bin/sh
echo "api is fine"
