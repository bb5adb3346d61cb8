# The functions of nixpkgs' lib that this project uses, with the same meaning and error texts near enough to read.
let
  lib = {
    inherit (builtins)
      attrNames
      attrValues
      concatLists
      concatMap
      concatStringsSep
      elemAt
      filter
      functionArgs
      isAttrs
      isFunction
      isList
      isString
      mapAttrs
      replaceStrings
      ;

    # Lists.
    optional = yes: one: if yes then [ one ] else [ ];
    optionals = yes: list: if yes then list else [ ];
    toList = value: if builtins.isList value then value else [ value ];
    subtractLists = without: builtins.filter (one: !builtins.elem one without);
    unique = builtins.foldl' (seen: one: if builtins.elem one seen then seen else seen ++ [ one ]) [ ];

    # Strings.
    optionalString = yes: text: if yes then text else "";
    concatStrings = builtins.concatStringsSep "";
    concatMapStringsSep =
      between: make: list:
      builtins.concatStringsSep between (map make list);
    hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
    removePrefix =
      prefix: text:
      if lib.hasPrefix prefix text then
        builtins.substring (builtins.stringLength prefix) (-1) text
      else
        text;
    hasInfix = infix: text: builtins.length (lib.splitAt infix text) > 1;
    splitAt =
      between: text:
      builtins.filter builtins.isString (
        builtins.split (lib.concatStrings (map (c: "[${c}]") (lib.characters between))) text
      );
    characters =
      text: builtins.genList (at: builtins.substring at 1 text) (builtins.stringLength text);
    toLower = builtins.replaceStrings (lib.characters "ABCDEFGHIJKLMNOPQRSTUVWXYZ") (
      lib.characters "abcdefghijklmnopqrstuvwxyz"
    );
    escapeShellArg =
      text:
      let
        plain = builtins.match "[a-zA-Z0-9,._+:@%/-]+" (toString text) != null;
      in
      if plain then toString text else "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] (toString text)}'";
    escapeShellArgs = lib.concatMapStringsSep " " lib.escapeShellArg;

    # Sets.
    optionalAttrs = yes: set: if yes then set else { };
    nameValuePair = name: value: { inherit name value; };
    genAttrs = names: make: builtins.listToAttrs (map (name: lib.nameValuePair name (make name)) names);
    filterAttrs =
      keep: set: removeAttrs set (builtins.filter (name: !keep name set.${name}) (builtins.attrNames set));
    mapAttrs' =
      make: set: builtins.listToAttrs (map (name: make name set.${name}) (builtins.attrNames set));
    mapAttrsToList = make: set: map (name: make name set.${name}) (builtins.attrNames set);

    # Packages and files.
    isDerivation = value: builtins.isAttrs value && value.type or null == "derivation";
    getExe = package: "${package}/bin/${package.meta.mainProgram}";
    getExe' = package: name: "${package}/bin/${name}";
    importTOML = path: fromTOML (builtins.readFile path);
    assertMsg = holds: message: if holds then true else throw message;
    licenses = {
      asl20.spdxId = "Apache-2.0";
      mit.spdxId = "MIT";
    };
    platforms.unix = [
      "aarch64-darwin"
      "x86_64-darwin"
      "aarch64-linux"
      "x86_64-linux"
    ];
    # A file set is a list of existing paths.
    fileset = {
      unions = builtins.concatMap lib.fileset.paths;
      paths =
        set:
        if builtins.isList set then
          set
        else if builtins.pathExists set then
          [ set ]
        else
          throw "lib.fileset.unions: ${toString set} does not exist";
      maybeMissing = path: if builtins.pathExists path then [ path ] else [ ];
      toSource =
        { root, fileset }:
        let
          kept = map toString fileset;
          within = folder: path: folder == path || lib.hasPrefix "${folder}/" path;
        in
        builtins.path {
          path = root;
          name = "source";
          filter = path: _: builtins.any (one: within one path || within path one) kept;
        };
    };

    generators.toPlist = import ./plist.nix { inherit lib; };
    types = import ./types.nix { inherit lib; };
  }
  // import ./modules.nix { inherit lib; };
in
lib
