#!/bin/sh
echo "tools is fine"
