-- policy_versions holds them, with their text and their author.
DROP TABLE policies;
