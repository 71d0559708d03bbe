"""The program that takes jobs from a studio and does them, on this machine or another."""
